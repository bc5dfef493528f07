//! Writes the seeds of the corpus anew, from real frames and from the vectors of `spec/`:
//!
//! ```text
//! cargo run -p byway-fuzz --example write_seeds
//! ```
//!
//! Files whose names start with `seed-` are replaced; crashes that were found stay.

use std::fs;
use std::io;
use std::path::Path;

fn main() -> io::Result<()> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for (target, _) in byway_fuzz::TARGETS {
        let folder = corpus.join(target);
        fs::create_dir_all(&folder)?;
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with("seed-") {
                fs::remove_file(entry.path())?;
            }
        }
        for (index, seed) in byway_fuzz::seeds::seeds(target).into_iter().enumerate() {
            fs::write(folder.join(format!("seed-{index:02}")), seed)?;
        }
    }
    Ok(())
}
