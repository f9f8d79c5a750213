fn main() {
    let a: Vec<std::path::PathBuf> = std::env::args().skip(1).map(Into::into).collect();
    sizewise_learn::quantize::encoder(
        &a[0],
        &a[1],
        &sizewise_learn::distill::attribution(&a[0], "quantize").unwrap(),
    )
    .unwrap();
    sizewise_learn::distill::static_embeddings(
        &a[0],
        &a[2],
        &sizewise_learn::distill::attribution(&a[0], "distil-static").unwrap(),
        &|d, t| eprintln!("{d}/{t}"),
    )
    .unwrap();
}
