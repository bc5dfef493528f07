//! Ordinary programs over a chain of three daemons, on good links and bad ones.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use byway_netns::{A, C, Chain, Faults, Host, Random, listens, tcp_send, tcp_sink};

/// Each way between A and C 1 % is lost, and what is not takes 30 ms longer: half of it on each link.
fn bad() -> Faults {
    Faults::lossy(15.0, 0.005)
}

#[test]
fn a_ping_goes_through_the_node_between() -> Result<()> {
    let chain = Chain::start(None)?;
    let text = chain.hosts[A].run(&format!("ping -6 -n -c 50 -i 0.02 {}", chain.ipv6(C)))?;
    assert!(text.contains(" 0% packet loss"), "{text}");
    Ok(())
}

#[test]
fn a_ping_survives_loss_and_delay() -> Result<()> {
    let chain = Chain::start(Some(&bad()))?;
    let output = chain.hosts[A].output(&format!("ping -6 -n -c 200 -i 0.02 -W 2 {}", chain.ipv6(C)))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let received = text.split(", ").find_map(|part| part.strip_suffix(" received")?.parse::<u32>().ok());
    // 2 % are lost there and back; that 20 of 200 are is a matter of one in a million.
    assert!(received.is_some_and(|received| received > 180), "{text}");
    Ok(())
}

#[test]
fn curl_fetches_a_hundred_megabytes_unchanged() -> Result<()> {
    fetch(None, 100_000_000)
}

#[test]
fn curl_fetches_a_hundred_megabytes_unchanged_over_bad_links() -> Result<()> {
    fetch(Some(&bad()), 100_000_000)
}

#[test]
fn iperf3_runs_both_ways() -> Result<()> {
    iperf3(None, 20.0)
}

#[test]
fn iperf3_runs_both_ways_over_bad_links() -> Result<()> {
    iperf3(Some(&bad()), 0.2)
}

#[test]
fn ssh_or_plain_tcp_carries_a_file() -> Result<()> {
    ssh(None)
}

#[test]
fn ssh_or_plain_tcp_carries_a_file_over_bad_links() -> Result<()> {
    ssh(Some(&bad()))
}

/// A web server on C, `curl` on A.
fn fetch(faults: Option<&Faults>, bytes: usize) -> Result<()> {
    let mut chain = Chain::start(faults)?;
    let site = chain.hosts[C].path("site");
    std::fs::create_dir(&site)?;
    random_file(&site.join("file"), bytes)?;
    let directory = site.display();
    let server = format!("python3 -m http.server 8080 --bind :: --directory {directory}");
    let server = chain.hosts[C].start(&server)?;
    listens(&chain.hosts[C], 8080)?;
    let copy = chain.hosts[A].path("copy");
    let url = format!("http://[{}]:8080/file", chain.ipv6(C));
    let limits = "--connect-timeout 10 --speed-limit 1000 --speed-time 10 --max-time 900";
    let line = format!("curl -gsSf --noproxy * {limits} -o {} {url}", copy.display());
    chain.hosts[A].run(&line).with_context(|| format!("{}{}", server.output(), chain.logs()))?;
    assert_eq!(sha256(&chain.hosts[A], &copy)?, sha256(&chain.hosts[A], &site.join("file"))?);
    Ok(())
}

/// Measures TCP both ways; it must be above `least`, in Mbit/s, which is far below what is usual.
fn iperf3(faults: Option<&Faults>, least: f64) -> Result<()> {
    let chain = Chain::start(faults)?;
    let _server = chain.hosts[C].start("iperf3 --server")?;
    listens(&chain.hosts[C], 5201)?;
    for way in ["", " --reverse"] {
        let text = chain.hosts[A].run(&format!("iperf3 --client {} --time 3 --json{way}", chain.ipv6(C)))?;
        let report: serde_json::Value = serde_json::from_str(&text)?;
        let rate = report["end"]["sum_received"]["bits_per_second"].as_f64().unwrap_or_default() / 1e6;
        assert!(rate > least, "{rate} Mbit/s{way}");
        println!("{rate:.1} Mbit/s{way}");
    }
    Ok(())
}

/// An SSH server on C, a client on A.
fn ssh(faults: Option<&Faults>) -> Result<()> {
    let mut chain = Chain::start(faults)?;
    let (a, c) = (&chain.hosts[A], &chain.hosts[C]);
    let sshd = ["/usr/sbin/sshd", "/usr/local/sbin/sshd"].into_iter().find(|path| Path::new(path).exists());
    let (Some(sshd), true) = (sshd, c.is_root()) else {
        // Without root no server can give a session to anyone; the same bytes then go by plain TCP.
        println!("no sshd, or no root: plain TCP instead");
        return copy(&chain);
    };
    for (host, name) in [(a, "client"), (c, "host")] {
        let mut keygen = host.command("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-f"]);
        ensure!(keygen.arg(host.path(name)).status()?.success(), "ssh-keygen failed");
    }
    let config = format!(
        "ListenAddress ::\nPort 2222\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\nUsePAM no\n\
         PermitRootLogin prohibit-password\nPasswordAuthentication no\nStrictModes no\nUseDNS no\n",
        c.path("host").display(),
        a.path("client.pub").display(),
    );
    std::fs::write(c.path("sshd_config"), config)?;
    std::fs::create_dir_all("/run/sshd")?;
    let server = c.start(&format!("{sshd} -D -e -f {}", c.path("sshd_config").display()))?;
    listens(c, 2222)?;
    let (file, back) = (a.path("file"), a.path("back"));
    random_file(&file, 1_000_000)?;
    let options = "-F /dev/null -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null \
                   -o ConnectTimeout=20 -o IdentitiesOnly=yes -o LogLevel=ERROR";
    let key = a.path("client");
    let line = format!(
        "ssh -6 {options} -i {} -p 2222 root@{} cat < {} > {}",
        key.display(),
        chain.ipv6(C),
        file.display(),
        back.display()
    );
    let output = a.command("sh", ["-c", &line]).output()?;
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{errors}\n{}\n{}", server.output(), chain.logs());
    let a = &chain.hosts[A];
    assert_eq!(sha256(a, &back)?, sha256(a, &file)?);
    Ok(())
}

/// A file from A to C by plain TCP.
fn copy(chain: &Chain) -> Result<()> {
    let (a, c) = (&chain.hosts[A], &chain.hosts[C]);
    let (file, arrived) = (a.path("file"), c.path("arrived"));
    random_file(&file, 1_000_000)?;
    let mut sink = tcp_sink(c, 2222, &arrived)?;
    tcp_send(a, chain.ipv6(C), 2222, &file)?;
    sink.wait(Duration::from_secs(60))?;
    assert_eq!(sha256(a, &arrived)?, sha256(a, &file)?);
    Ok(())
}

#[test]
fn plain_tcp_carries_a_file() -> Result<()> {
    copy(&Chain::start(None)?)
}

fn random_file(path: &Path, bytes: usize) -> Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    let mut random = Random::new(bytes as u64);
    for _ in 0..bytes.div_ceil(8) {
        file.write_all(&random.bits().to_le_bytes())?;
    }
    Ok(file.flush()?)
}

fn sha256(host: &Host, path: &Path) -> Result<String> {
    let text = host.run(&format!("sha256sum {}", path.display()))?;
    Ok(text.split_whitespace().next().context("no hash")?.to_owned())
}
