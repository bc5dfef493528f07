//! `byway addr`.

use std::path::PathBuf;

use byway_identity::Addr;
use serde::Serialize;

use crate::failure::Failure;
use crate::keys;
use crate::out::Out;

/// Prints the address that belongs to a key.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Key file, or - for stdin; without it the key of the daemon that runs as this user.
    key: Option<PathBuf>,
}

#[derive(Serialize)]
struct Answer {
    addr: Addr,
}

/// Runs it.
pub(crate) fn run(args: &Args, out: &mut Out<'_>) -> Result<(), Failure> {
    let addr = keys::read_or_own(args.key.as_deref())?.public().addr();
    if out.json { out.object(&Answer { addr }) } else { out.line(addr) }
}

#[cfg(test)]
mod tests {
    use byway_identity::{OsEntropy, SigningKey, keyfile};

    use super::*;

    #[test]
    fn the_address_of_a_key_file_is_printed_and_a_file_open_to_others_refused() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("key.pem");
        let key = SigningKey::generate(&mut OsEntropy);
        keyfile::create(&path, &key, None).expect("written");
        let mut data = Vec::new();
        let args = Args { key: Some(path.clone()) };
        run(&args, &mut Out::new(&mut data, &mut Vec::new())).expect("a key");
        assert_eq!(String::from_utf8_lossy(&data), format!("{}\n", key.public().addr()));

        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o644)).expect("ours");
        let refused =
            run(&args, &mut Out::new(&mut Vec::new(), &mut Vec::new())).expect_err("readable by others");
        assert!(refused.status().0 == 2 && refused.status().1.is_some_and(|text| text.contains("chmod 600")));
    }
}
