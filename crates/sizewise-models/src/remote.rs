//! What is reached over the network? The one module of the program that opens outbound connections.

mod chat;
mod hub;

pub use chat::{Ask, Chat, Reply, Then, Trouble, Usage};
pub use hub::{Hub, HubFile, HubModel};
