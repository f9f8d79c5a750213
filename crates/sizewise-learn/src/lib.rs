//! How does a small model come out of a table of examples?
//!
//! ```text
//!   table ─► prepare ─► dataset ─► fit ─► calibrate ─► certify ─► package
//!            columns,   gold and   tiers,  confidence   locked     parts of
//!            splits     teacher    smallest             rows       a release
//!            report     rows       first
//! ```

pub mod adapt;
pub mod calibrate;
pub mod compress;
pub mod dataset;
pub mod distill;
pub mod error;
pub mod fit;
pub mod onnx;
pub mod opened;
pub mod prepare;
pub mod quantize;
pub mod renew;
pub mod sites;
pub mod table;
pub mod tagger;
pub mod teach;
pub mod train;
pub mod worth;

pub use error::{Error, Result};
