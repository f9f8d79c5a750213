//! How fast is the built-in encoder here? For each kernel, or the one named: one 12-word text, and batches; one thread.

use sizewise_contract::{Embed, task::Overflow};
use sizewise_models::Kernel;
use std::time::Instant;

const TEXT: &str = "i still have not received the new card that i ordered yesterday";

fn main() -> Result<(), sizewise_models::Error> {
    let began = Instant::now();
    drop(sizewise_models::builtin::encoder()?);
    println!("load: {:.1} ms", began.elapsed().as_secs_f64() * 1e3);
    println!("{:<14}{:>10}{:>10}{:>12}", "kernel", "p50 ms", "p99 ms", "texts/s");
    let named = std::env::args().nth(1);
    for kernel in Kernel::available() {
        if named.as_ref().is_some_and(|name| name != kernel.name()) {
            continue;
        }
        let encoder = sizewise_models::builtin::encoder()?.with_threads(1).with_kernel(kernel);
        let mut times = (0..300)
            .map(|_| {
                let began = Instant::now();
                encoder.embed(&[TEXT], Overflow::Error)?;
                Ok(began.elapsed().as_secs_f64() * 1e3)
            })
            .collect::<Result<Vec<f64>, sizewise_models::Error>>()?;
        times.sort_by(f64::total_cmp);
        let texts: Vec<&str> = std::iter::repeat_n(TEXT, 512).collect();
        let mut rates = (0..5)
            .map(|_| {
                let began = Instant::now();
                encoder.embed(&texts, Overflow::Error)?;
                Ok(texts.len() as f64 / began.elapsed().as_secs_f64())
            })
            .collect::<Result<Vec<f64>, sizewise_models::Error>>()?;
        rates.sort_by(f64::total_cmp);
        println!("{:<14}{:>10.2}{:>10.2}{:>12.0}", kernel.name(), times[150], times[297], rates[2]);
    }
    Ok(())
}
