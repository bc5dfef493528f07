//! Other people's programs, and the daemons that they are tried against.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use byway_api::body::{PeerSpec, Status};
use byway_client::Client;
use tokio::process::{Child, Command};

/// The client of INET256's local API, in Python.
pub fn inet256_client() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("inet256_client.py")
}

/// The vectors that INET256's forms are checked against.
pub fn inet256_vectors() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../spec/vectors/inet256-public.json")
}

/// Runs the Python client with these arguments; its words are in the error if it fails or takes longer than `wait`.
pub async fn run_inet256_client(apis: &[String], arguments: &[&str], wait: Duration) -> Result<()> {
    let mut command = Command::new("python3");
    command.arg("-B").arg(inet256_client());
    for api in apis {
        command.args(["--api", api]);
    }
    let child = command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = child.kill_on_drop(true).spawn().context("python3 is needed for this test")?;
    let output = tokio::time::timeout(wait, child.wait_with_output())
        .await
        .with_context(|| format!("{arguments:?} took longer than {} s", wait.as_secs()))??;
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    ensure!(
        output.status.success(),
        "{arguments:?} failed:\n{}{}",
        said(&output.stdout),
        said(&output.stderr)
    );
    Ok(())
}

/// A daemon of its own: a real process with its state in a folder that ends with it.
pub struct Daemon {
    child: Child,
    folder: tempfile::TempDir,
}

impl Daemon {
    /// Starts one without links and portal, and waits until it answers.
    pub async fn start() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let (socket, log) = (folder.path().join("api.sock"), folder.path().join("log"));
        let config = folder.path().join("byway.toml");
        let text = format!(
            "[api]\nlisten = [\"unix:{}\"]\n[mancon]\ndefault = \"low\"\ndirect = true\n[portal]\nenabled = false\n\
             [links]\nudp.listen = [\"127.0.0.1:0\"]\n",
            socket.display()
        );
        tokio::fs::write(&config, text).await?;
        let child = Command::new(binary()?)
            .arg("up")
            .arg("--config")
            .arg(&config)
            .arg("--state")
            .arg(folder.path().join("state"))
            .stdin(Stdio::null())
            .stdout(std::fs::File::create(&log)?)
            .stderr(std::fs::File::options().append(true).create(true).open(&log)?)
            .kill_on_drop(true)
            .spawn()?;
        let mut daemon = Self { child, folder };
        for _ in 0..200 {
            if let Some(status) = daemon.child.try_wait()? {
                bail!("the daemon ended with {status}:\n{}", std::fs::read_to_string(&log)?);
            }
            if tokio::net::UnixStream::connect(&socket).await.is_ok() {
                return Ok(daemon);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        bail!("the daemon did not listen within 10 s:\n{}", std::fs::read_to_string(&log)?)
    }

    /// Two that are linked, over UDP on this machine.
    pub async fn pair() -> Result<(Self, Self)> {
        let (one, other) = (Self::start().await?, Self::start().await?);
        let (one_client, other_client) = (Client::new(&one.api())?, Client::new(&other.api())?);
        let (one_status, other_status) = (one_client.status().await?, other_client.status().await?);
        let peer = |status: &Status| PeerSpec {
            addr: status.addr,
            name: None,
            endpoints: status.endpoints.clone(),
            transports: Vec::new(),
            save: false,
        };
        other_client.add_peer(&peer(&one_status)).await?;
        one_client.add_peer(&peer(&other_status)).await?;
        for _ in 0..400 {
            if one_client.status().await?.peers_up == 1 && other_client.status().await?.peers_up == 1 {
                return Ok((one, other));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        bail!("the two were not linked within 20 s:\n{}\n{}", one.log(), other.log())
    }

    /// Where its API is, as INET256's clients write it.
    pub fn api(&self) -> String {
        format!("unix://{}", self.folder.path().join("api.sock").display())
    }

    /// What it has printed.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

/// The `byway` that was built beside this test.
///
/// # Errors
///
/// When there is none: tests of real daemons are not skipped.
pub fn binary() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let folder = own.parent().and_then(Path::parent).context("a test is in target/PROFILE/deps")?;
    let binary = folder.join("byway");
    ensure!(binary.is_file(), "{} is missing; build it first: cargo build -p byway", binary.display());
    Ok(binary)
}
