//! Where things are unless somebody says otherwise.

use std::ffi::OsString;
use std::path::PathBuf;

/// Places of the configuration, the state and the API's socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// The configuration file; there may be none.
    pub config: PathBuf,
    /// The state directory.
    pub state: PathBuf,
    /// The API's socket.
    pub socket: PathBuf,
}

impl Paths {
    /// Those of a daemon of the whole system, as root runs it.
    pub fn of_system() -> Self {
        Self {
            config: "/etc/byway/byway.toml".into(),
            state: "/var/lib/byway".into(),
            socket: "/run/byway/api.sock".into(),
        }
    }

    /// Those of whoever runs this process: root has the system's, all others their own, after the XDG base directory
    /// specification.
    pub fn of_user() -> Self {
        if nix::unistd::geteuid().is_root() {
            Self::of_system()
        } else {
            Self::xdg(|name| std::env::var_os(name))
        }
    }

    fn xdg(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        // The specification tells to ignore paths that are not absolute.
        let path = |name: &str| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let home = path("HOME").unwrap_or_default();
        let state = path("XDG_STATE_HOME").unwrap_or_else(|| home.join(".local/state")).join("byway");
        Self {
            config: path("XDG_CONFIG_HOME").unwrap_or_else(|| home.join(".config")).join("byway/byway.toml"),
            socket: path("XDG_RUNTIME_DIR")
                .map_or_else(|| state.join("api.sock"), |dir| dir.join("byway/api.sock")),
            state,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_has_places_below_home_or_where_xdg_says() {
        let home = |name: &str| (name == "HOME").then(|| "/home/ann".into());
        let paths = Paths::xdg(home);
        assert_eq!(paths.config, PathBuf::from("/home/ann/.config/byway/byway.toml"));
        assert_eq!(paths.socket, PathBuf::from("/home/ann/.local/state/byway/api.sock"));

        let all = |name: &str| Some(format!("/x/{name}").into());
        let paths = Paths::xdg(all);
        assert_eq!(paths.state, PathBuf::from("/x/XDG_STATE_HOME/byway"));
        assert_eq!(paths.socket, PathBuf::from("/x/XDG_RUNTIME_DIR/byway/api.sock"));
    }

    #[test]
    fn relative_xdg_paths_are_ignored() {
        let odd = |name: &str| Some(if name == "HOME" { "/home/ann" } else { "relative" }.into());
        assert_eq!(Paths::xdg(odd).state, PathBuf::from("/home/ann/.local/state/byway"));
    }
}
