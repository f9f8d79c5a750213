//! How fast is the built-in encoder here? Prints the time of one 12-word text and of a batch, one thread.

use sizewise_contract::{Embed, task::Overflow};
use std::time::Instant;

fn main() -> Result<(), sizewise_models::Error> {
    let began = Instant::now();
    let encoder = sizewise_models::builtin::encoder()?.with_threads(1);
    println!("load: {:.1} ms", began.elapsed().as_secs_f64() * 1e3);
    let text = "i still have not received the new card that i ordered yesterday";
    let mut times: Vec<f64> = (0..300)
        .map(|_| {
            let began = Instant::now();
            let found = encoder.embed(&[text], Overflow::Error);
            assert!(found.is_ok());
            began.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    times.sort_by(f64::total_cmp);
    println!("one text of 12 words: p50 {:.2} ms, p99 {:.2} ms", times[150], times[297]);
    let texts: Vec<&str> = std::iter::repeat_n(text, 512).collect();
    let began = Instant::now();
    encoder.embed(&texts, Overflow::Error)?;
    println!("batches: {:.0} texts/s", 512.0 / began.elapsed().as_secs_f64());
    Ok(())
}
