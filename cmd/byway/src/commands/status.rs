//! `byway status`.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use byway_api::body::{Status, TransportInfo};
use serde::Serialize;

use super::{Context, Watch};
use crate::failure::Failure;
use crate::map::{self, Drawing};
use crate::out::{Out, Paint};

/// Shows the daemon's address, level, links, and what is missing; or draws the network around it.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    watch: Watch,
    /// Draws the known network around this node instead, as SVG: nodes by the beginning of their address, links with class and
    /// cost. FILE is replaced, and `-` is stdout.
    #[arg(long, value_name = "FILE.svg", conflicts_with = "watch")]
    map: Option<PathBuf>,
}

/// What was drawn, and where to.
#[derive(Serialize)]
struct Drawn<'a> {
    map: &'a Path,
    #[serde(flatten)]
    drawing: Drawing,
}

/// Most nodes in a picture: more of them nobody can read.
const MAP_MAX: usize = 500;

/// Runs it.
pub(crate) async fn run(args: &Args, context: &mut Context<'_, '_>) -> Result<(), Failure> {
    if let Some(file) = &args.map {
        return draw(file, context).await;
    }
    args.watch
        .run(context, async |service, out| {
            let status = service.status().await?;
            if out.json { out.object(&status) } else { show(&status, out) }
        })
        .await
}

async fn draw(file: &Path, context: &mut Context<'_, '_>) -> Result<(), Failure> {
    let (map, routes) = (context.service.map(MAP_MAX).await?, context.service.routes().await?);
    let (drawing, text) = map::draw(&map, &routes, MAP_MAX);
    if file == Path::new("-") {
        return context.out.bytes(text.as_bytes());
    }
    write(file, &text)
        .map_err(|error| Failure::could_not(format!("{} cannot be written: {error}", file.display())))?;
    if context.out.json {
        return context.out.object(&Drawn { map: file, drawing });
    }
    let more = if drawing.cut { "; more is known than fits" } else { "" };
    context.out.note(format!("{}: {} nodes, {} links{more}", file.display(), drawing.nodes, drawing.links));
    Ok(())
}

/// Whole or not at all, unless `file` is a device or a pipe. What a symbolic link names is written, not the link.
fn write(file: &Path, text: &str) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;

    let file = std::fs::canonicalize(file).unwrap_or_else(|_| file.to_owned());
    let known = std::fs::metadata(&file).ok();
    if known.as_ref().is_some_and(std::fs::Metadata::is_dir) {
        return Err(std::io::ErrorKind::IsADirectory.into());
    }
    if known.as_ref().is_some_and(|known| !known.is_file()) {
        return std::fs::OpenOptions::new().write(true).open(&file)?.write_all(text.as_bytes());
    }
    let folder = match file.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    // As any program makes a file: who may read it is the umask's matter, or stays as it was.
    let mode = known.map_or_else(|| std::fs::Permissions::from_mode(0o666), |known| known.permissions());
    if !folder.is_dir() {
        return Err(std::io::Error::new(
            std::io::ErrorKind::NotFound,
            format!("there is no folder {}", folder.display()),
        ));
    }
    let mut whole = tempfile::Builder::new().prefix(".byway-map").permissions(mode).tempfile_in(folder)?;
    whole.write_all(text.as_bytes())?;
    whole.as_file().sync_all()?;
    whole.persist(&file)?;
    Ok(())
}

fn show(status: &Status, out: &mut Out<'_>) -> Result<(), Failure> {
    let mut row = |name: &str, value: String| {
        let name = out.paint(Paint::Head, format!("{name:10}"));
        out.line(format!("{name}{value}"))
    };
    row("address", status.addr.to_string())?;
    row("ipv6", status.ipv6.clone().unwrap_or_else(|| "none".into()))?;
    row("version", format!("{}, started {}", status.version, status.started))?;
    row("network", format!("{} ({})", status.network, status.protocol))?;
    let direct = if status.direct { "allowed at low and medium" } else { "off" };
    row("level", format!("{}, floor {}; clear links {direct}", status.mancon, status.floor))?;
    match status.endpoints.as_slice() {
        [] => row("listens", "nowhere".into())?,
        endpoints => endpoints.iter().try_for_each(|endpoint| row("listens", endpoint.clone()))?,
    }
    status.transports.iter().try_for_each(|transport| row(&transport.kind, doing(transport)))?;
    row("peers", format!("{} of {} linked", status.peers_up, status.peers))?;
    row("nodes", format!("{} on this daemon, its own included", status.nodes))?;
    row("portal", status.portal.clone().unwrap_or_else(|| "none".into()))?;
    for warning in &status.warnings {
        let mark = out.paint(Paint::Odd, "warning");
        out.line(format!("{mark}   {warning}"))?;
    }
    Ok(())
}

/// How a transport is doing, on one line.
pub(super) fn doing(transport: &TransportInfo) -> String {
    let percent = transport.percent.map(|percent| format!(" {percent}%")).unwrap_or_default();
    let detail = transport.detail.as_ref().map(|detail| format!(": {detail}")).unwrap_or_default();
    format!("{}{percent}{detail}", transport.state)
}

#[cfg(test)]
mod tests {
    use super::super::fake::{FAR, Fake, OTHER};
    use super::*;

    fn args(map: Option<&Path>) -> Args {
        Args { watch: Watch { watch: false }, map: map.map(Path::to_owned) }
    }

    #[tokio::test]
    async fn people_see_address_and_warnings_and_programs_see_everything() {
        let fake = Fake::new();
        let args = args(None);
        let text = fake.run(async |context| run(&args, context).await).await.data();
        assert!(text.contains(&fake.addr().to_string()) && text.contains("warning   no peers"), "{text}");
        assert!(text.contains("tor       starting 45%: asking for relays"), "{text}");

        let json = fake.json(async |context| run(&args, context).await).await.data();
        let status: Status = serde_json::from_str(&json).expect("one object");
        assert_eq!(status.addr, fake.addr());
    }

    #[tokio::test]
    async fn a_map_goes_to_a_file_whole_or_to_stdout() {
        let (fake, folder) = (Fake::new(), tempfile::tempdir().expect("there is room"));
        let file = folder.path().join("map.svg");
        std::fs::write(&file, "x".repeat(1 << 20)).expect("there is room");
        let to_file = args(Some(&file));
        let ran = fake.run(async |context| run(&to_file, context).await).await;
        assert_eq!((ran.status(), ran.data().as_str()), (0, ""), "{}", ran.notes());
        assert!(ran.notes().ends_with("map.svg: 3 nodes, 2 links\n"), "{}", ran.notes());
        let text = std::fs::read_to_string(&file).expect("it was written");
        for addr in [fake.addr(), OTHER, FAR] {
            assert!(text.contains(&addr.to_string()), "{text}");
        }
        assert!(!text.contains("192.0.2.7") && !text.contains("neighbour\""), "no endpoints, no names");
        assert_eq!(
            std::fs::read_dir(folder.path()).expect("it is there").count(),
            1,
            "nothing is left beside it"
        );

        let to_stdout = args(Some(Path::new("-")));
        let ran = fake.run(async |context| run(&to_stdout, context).await).await;
        assert_eq!((ran.data(), ran.notes().as_str()), (text, ""));
        let json = fake.json(async |context| run(&to_file, context).await).await.data();
        let value: serde_json::Value = serde_json::from_str(&json).expect("one object");
        assert_eq!((&value["nodes"], &value["cut"]), (&serde_json::json!(3), &serde_json::json!(false)));
    }

    #[tokio::test]
    async fn a_map_that_cannot_be_written_leaves_everything_as_it_was_and_says_why() {
        let (fake, folder) = (Fake::new(), tempfile::tempdir().expect("there is room"));
        let here = folder.path();
        for (file, why) in [
            (here.join("no/such/map.svg"), "there is no folder"),
            (here.to_owned(), "is a directory"),
            (PathBuf::from("/proc/map.svg"), "cannot be written"),
        ] {
            let args = args(Some(&file));
            let ran = fake.run(async |context| run(&args, context).await).await;
            assert!(ran.status() == 2 && ran.notes().contains(why), "{}: {}", file.display(), ran.notes());
        }
        assert_eq!(std::fs::read_dir(here).expect("it is there").count(), 0);
        let device = args(Some(Path::new("/dev/null")));
        assert_eq!(fake.run(async |context| run(&device, context).await).await.status(), 0);
        assert!(!std::fs::metadata("/dev/null").expect("it is there").is_file(), "a device stays a device");
    }

    #[tokio::test]
    async fn a_symbolic_link_stays_and_the_mode_of_a_file_too() {
        use std::os::unix::fs::PermissionsExt as _;

        let (fake, folder) = (Fake::new(), tempfile::tempdir().expect("there is room"));
        let (file, link) = (folder.path().join("map.svg"), folder.path().join("link.svg"));
        std::fs::write(&file, "old").expect("there is room");
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).expect("it is ours");
        std::os::unix::fs::symlink(&file, &link).expect("there is room");
        let args = args(Some(&link));
        assert_eq!(fake.run(async |context| run(&args, context).await).await.status(), 0);
        assert!(std::fs::symlink_metadata(&link).expect("it is there").is_symlink());
        assert!(std::fs::read_to_string(&file).is_ok_and(|text| text.starts_with("<?xml")));
        assert_eq!(std::fs::metadata(&file).expect("it is there").permissions().mode() & 0o777, 0o640);
    }
}
