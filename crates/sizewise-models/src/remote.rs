//! What is reached over the network? The one module of the program that opens outbound connections.
//!
//! ```text
//!   commands ─► Hub, Chat (one blocking call at a time)
//!   server   ─► deliver ─► Provider ─► Client ─► reach ─► the network
//!               tries, waits, dialect, connections,  which addresses
//!               money, next    breaker  deadlines      may be called
//! ```

mod breaker;
mod chat;
mod client;
mod deliver;
pub mod dialect;
mod events;
mod fetch;
mod hedge;
mod hub;
mod mail;
mod post;
mod provider;
pub mod questions;
mod reach;
mod relay;
mod skim;
mod trace;

pub use chat::Chat;
pub use client::{Body, Client, Incoming};
pub use deliver::{Delivered, Money, NoAnswer, Question, Reserve, Undelivered, deliver};
pub use dialect::{Ask, Dialect, Reply, Then, Trouble, Usage};
pub use events::{Events, Streams};
pub use fetch::{Form, fetch, send_form};
pub use hub::{Hub, HubFile, HubModel};
pub use mail::{Letter, Mail, MailServer, Security};
pub use post::{Post, Said};
pub use provider::{Provider, ProviderSettings, ProviderState, Residency};
pub use reach::Reach;
pub use relay::{Answer, NotRelayed, Relayable, Stream, Target, Why, relay};
pub use trace::{Answered, Call, Context, Spans, Trace, random};
