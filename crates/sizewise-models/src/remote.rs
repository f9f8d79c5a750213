//! What is reached over the network? The one module of the program that opens outbound connections.

mod hub;

pub use hub::{Hub, HubFile, HubModel};
