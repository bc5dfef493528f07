//! `byway keygen`.

use std::path::PathBuf;

use byway_identity::keyfile::{self, Existing};
use byway_identity::{OsEntropy, SigningKey};
use zeroize::Zeroizing;

use crate::failure::Failure;
use crate::keys;
use crate::out::Out;

/// Makes a key: PKCS#8 PEM, the form that OpenSSL reads too.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Writes it to this file, readable by its owner alone; never over a file that is there.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Encrypts it under a passphrase, asked for on the terminal or taken from BYWAY_PASSPHRASE.
    #[arg(long, conflicts_with = "inet256")]
    passphrase: bool,
    /// In the form of INET256's key files, which cannot be encrypted.
    #[arg(long)]
    inet256: bool,
}

/// Runs it.
pub(crate) fn run(args: &Args, out: &mut Out<'_>) -> Result<(), Failure> {
    let key = SigningKey::generate(&mut OsEntropy);
    let passphrase = args.passphrase.then(keys::new_passphrase).transpose()?;
    write(args, &key, passphrase.as_ref().map(|text| text.as_str()), out)?;
    out.note(format!("address {}", key.public().addr()));
    Ok(())
}

fn write(args: &Args, key: &SigningKey, passphrase: Option<&str>, out: &mut Out<'_>) -> Result<(), Failure> {
    let failure = |error: keyfile::KeyFileError| Failure::could_not(error.to_string());
    let bytes = if args.inet256 {
        key.to_inet256_bytes()
    } else {
        let pem = keyfile::encode_pem(key, passphrase).map_err(failure)?;
        Zeroizing::new(pem.as_bytes().to_vec())
    };
    match &args.out {
        Some(path) => keyfile::save(path, &bytes, Existing::Keep).map_err(failure),
        None => out.bytes(&bytes),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn quiet(args: &Args) -> Result<(), Failure> {
        run(args, &mut Out::new(&mut Vec::new(), &mut Vec::new()))
    }

    #[test]
    fn a_key_file_is_for_its_owner_alone_and_never_overwritten() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("key.pem");
        let args = Args { out: Some(path.clone()), passphrase: false, inet256: false };
        quiet(&args).expect("the directory is there");
        assert_eq!(path.metadata().expect("written").permissions().mode() & 0o777, 0o600);
        let before = std::fs::read(&path).expect("readable");
        assert_eq!(quiet(&args).map_err(|failure| failure.status().0), Err(2));
        assert_eq!(std::fs::read(&path).expect("readable"), before);
    }

    #[test]
    fn every_form_gives_the_same_key_back() {
        let key = SigningKey::generate(&mut OsEntropy);
        for (inet256, passphrase) in [(false, None), (true, None), (false, Some("horse"))] {
            let mut data = Vec::new();
            let args = Args { out: None, passphrase: passphrase.is_some(), inet256 };
            let mut notes = Vec::new();
            write(&args, &key, passphrase, &mut Out::new(&mut data, &mut notes))
                .expect("a vector takes everything");
            let back = keyfile::decode(&data, passphrase).expect("a key file");
            assert_eq!(back.public(), key.public());
        }
    }
}
