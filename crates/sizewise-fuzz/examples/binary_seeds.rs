//! How were the seeds made that are no text?
//!
//! `cargo run --package sizewise-fuzz --example binary_seeds` writes them anew, with the product's own writers and the one of `parquet`.

use parquet::{
    data_type::{BoolType, ByteArray, ByteArrayType, DoubleType, Int32Type, Int64Type, Int96, Int96Type},
    file::{properties::WriterProperties, writer::SerializedFileWriter},
    schema::parser::parse_message_type,
};
use sizewise_fuzz::fixture;
use sizewise_learn::table::{TableWriter, TableWriterOptions};
use std::{error::Error, fs, path::Path, sync::Arc};

fn main() -> Result<(), Box<dyn Error>> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
    for (number, part) in fixture::parts().iter().enumerate() {
        let name = part.name.replace(['/', '.'], "_");
        write(&corpus.join("safetensors").join(name), &number.to_string(), &part.bytes)?;
    }
    write(&corpus.join("safetensors/static_embeddings"), "0", &fixture::embeddings_table())?;
    write(&corpus.join("table/texts.parquet"), "2", &texts()?)?;
    write(&corpus.join("table/typed.parquet"), "2", &typed()?)?;
    Ok(())
}

/// The first byte of these seeds says which reader or part they are for.
fn write(path: &Path, chosen: &str, bytes: &[u8]) -> std::io::Result<()> {
    fs::write(path, [chosen.as_bytes(), bytes].concat())
}

/// As the product writes tables.
fn texts() -> Result<Vec<u8>, Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("t.parquet");
    let columns = ["text", "label"].map(String::from);
    let mut writer = TableWriter::create(&path, &columns, &TableWriterOptions::default())?;
    for row in [["where is my card", "card"], ["", "é"], ["lost, lost", "card"]] {
        writer.write(&row.map(String::from))?;
    }
    writer.finish()?;
    Ok(fs::read(path)?)
}

/// A column of every kind that other programs write.
fn typed() -> Result<Vec<u8>, Box<dyn Error>> {
    const SCHEMA: &str = "message rows {
        optional binary text (STRING); required boolean flag; required double number; required int32 day (DATE);
        required int64 at (TIMESTAMP_MILLIS); required int64 micros (TIMESTAMP_MICROS); required int96 old;
        required binary price (DECIMAL(9, 2)); required int32 clock (TIME_MILLIS);
    }";
    let properties = WriterProperties::builder().set_dictionary_enabled(false).build();
    let schema = Arc::new(parse_message_type(SCHEMA)?);
    let mut writer = SerializedFileWriter::new(Vec::new(), schema, Arc::new(properties))?;
    let mut group = writer.next_row_group()?;
    let mut at = 0;
    while let Some(mut column) = group.next_column()? {
        match at {
            0 => column.typed::<ByteArrayType>().write_batch(&["a".into()], Some(&[1, 0]), None)?,
            1 => column.typed::<BoolType>().write_batch(&[true, false], None, None)?,
            2 => column.typed::<DoubleType>().write_batch(&[2.5, f64::NAN], None, None)?,
            3 => column.typed::<Int32Type>().write_batch(&[19_000, -1], None, None)?,
            4 => column.typed::<Int64Type>().write_batch(&[1_700_000_000_000, -1], None, None)?,
            5 => column.typed::<Int64Type>().write_batch(&[1_700_000_000_000_000, -1], None, None)?,
            6 => column.typed::<Int96Type>().write_batch(
                &[Int96::from(vec![0, 0, 2_440_588]); 2],
                None,
                None,
            )?,
            7 => column.typed::<ByteArrayType>().write_batch(
                &[ByteArray::from(vec![1, 44]), ByteArray::from(vec![255])],
                None,
                None,
            )?,
            _ => column.typed::<Int32Type>().write_batch(&[3_600_000, 0], None, None)?,
        };
        column.close()?;
        at += 1;
    }
    group.close()?;
    Ok(writer.into_inner()?)
}
