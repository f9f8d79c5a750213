//! Which command was asked for?

fn main() {}
