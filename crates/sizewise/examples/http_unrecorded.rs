//! What does serving cost when no decision leaves a record?
//!
//! ```text
//! cargo run --release --example http_unrecorded -- PROJECT 127.0.0.1:8099      # one worker; ends when it is killed
//! ```
//!
//! The tasks of a project with their real models behind the real server, and nothing written: what `sizewise serve` loses against it is
//! what records cost. `scripts/measure-records` runs it.

use sizewise::serve::{self, KeyCheck, Member, Settings};
use sizewise_engine::Engine;
use sizewise_store::Store;
use std::{num::NonZeroUsize, path::Path, sync::Arc};

/// Everybody may call.
struct NoKeys;

impl KeyCheck for NoKeys {
    fn any(&self) -> bool {
        false
    }

    fn verify(&self, _key: &str) -> Option<Arc<Member>> {
        None
    }

    fn by_id(&self, _id: &str) -> Option<Arc<Member>> {
        None
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut words = std::env::args().skip(1);
    let project = words.next().ok_or("http_unrecorded PROJECT [ADDRESS]")?;
    let bind = words.next().unwrap_or_else(|| "127.0.0.1:0".to_owned()).parse()?;
    let store = Arc::new(Store::open(&Path::new(&project).join(".sizewise"))?);
    let settings = sizewise_engine::Settings { allow_uncertified: true, encoder_workers: 1, record: false };
    let engine = Arc::new(Engine::start(store, settings)?);
    let names: Vec<String> = std::fs::read_dir(Path::new(&project).join("tasks"))?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<std::io::Result<_>>()?;
    if let Some((_, error)) = engine.load(&names).pop() {
        return Err(error.into());
    }
    engine.read_evidence()?;
    let settings = Settings { bind, workers: NonZeroUsize::MIN, ..Settings::default() };
    let ready = |address| println!("serving on http://{address} without records");
    serve::run(settings, Arc::new(NoKeys), engine, ready, std::future::pending::<()>())?;
    Ok(())
}
