//! How does a large language model teach a small one, for as little money as will do?
//!
//! ```text
//!   texts ─► pool ─► select ─► ask ─► answers ─► quick ─► another round?
//!            no copy, what to   purse, one line   what the
//!            no leak  ask next  reply  each, kept  labels buy
//!
//!   labels with few rows ─► write ─► sieve ─► ask ─► settle ─► written
//!                           new and  no copy,  does it  what is  one line
//!                           re-told  no leak   say so?  missing  each
//! ```

pub mod answers;
pub mod ask;
pub mod curve;
pub mod doubted;
pub mod lesson;
pub mod noise;
pub mod pool;
pub mod purse;
pub mod quick;
pub mod select;
pub mod settle;
pub mod sieve;
pub mod write;
pub mod written;
