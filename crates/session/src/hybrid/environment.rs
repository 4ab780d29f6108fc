//! The variables of a command that runs on this machine in place of one in the container.
//!
//! They come from the running container, so that nobody needs the right to read the Secrets they were made of: what the
//! image, `env`, `envFrom` and every reference gave it. Left out is what is about the container itself. What the
//! manifest sets wins.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::OsStringExt;

use towline_cluster::expand;

/// Variables that say where things are in the container, who runs in it and on which terminal, or that make programs load
/// code from a path: those of this machine stay. They are listed in `docs/hybrid.md`.
const OF_THE_CONTAINER: &[&str] = &[
    "BASH_ENV",
    "BUNDLE_APP_CONFIG",
    "BUNDLE_PATH",
    "CARGO_HOME",
    "COLUMNS",
    "CONDA_PREFIX",
    "DISPLAY",
    "DOTNET_ROOT",
    "DOTNET_STARTUP_HOOKS",
    "EDITOR",
    "ENV",
    "GEM_HOME",
    "GEM_PATH",
    "GIT_EXEC_PATH",
    "GIT_SSH",
    "GIT_SSH_COMMAND",
    "GOPATH",
    "GOROOT",
    "GOTOOLCHAIN",
    "HOME",
    "HOSTNAME",
    "JAVA_HOME",
    "JAVA_TOOL_OPTIONS",
    "JDK_JAVA_OPTIONS",
    "JRE_HOME",
    "KUBECONFIG",
    "LINES",
    "LOGNAME",
    "NODE_OPTIONS",
    "NODE_PATH",
    "OLDPWD",
    "PAGER",
    "PATH",
    "PERL5LIB",
    "PERL5OPT",
    "PROMPT_COMMAND",
    "PS1",
    "PWD",
    "PYTHONHOME",
    "PYTHONPATH",
    "PYTHONSTARTUP",
    "RUBYLIB",
    "RUBYOPT",
    "RUSTUP_HOME",
    "SHELL",
    "SHLVL",
    "SSH_AUTH_SOCK",
    "TEMP",
    "TERM",
    "TMP",
    "TMPDIR",
    "USER",
    "VIRTUAL_ENV",
    "XDG_RUNTIME_DIR",
    "_",
    "_JAVA_OPTIONS",
];
/// How names of such variables begin: the API server's address, which leads nowhere from here and comes with a token that
/// is not here; loaders' own; ours.
const FAMILIES: &[&str] = &["DYLD_", "KUBERNETES_", "LD_", "TOWLINE_"];

/// What a command gets beside this machine's own variables.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Environment {
    /// By name.
    pub(crate) variables: BTreeMap<OsString, OsString>,
    /// The container's variables that stay there; of a family as `LD_*`.
    pub(crate) left_out: Vec<String>,
}

/// The values of variables stay out of logs, so they stay out of `Debug`.
impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.variables.keys().collect();
        f.debug_struct("Environment").field("names", &names).field("left_out", &self.left_out).finish()
    }
}

/// Tells whether a variable is about the container itself.
pub(crate) fn is_left_out(name: &str) -> bool {
    OF_THE_CONTAINER.contains(&name) || family(name).is_some()
}

fn family(name: &str) -> Option<&'static str> {
    FAMILIES.iter().copied().find(|family| name.starts_with(family))
}

/// Works out the variables: the container's, as `/proc/pid/environ` has them, then the manifest's `own`, in which
/// `$(NAME)` stands for the container's or an earlier one of its own, as in a pod.
pub(crate) fn resolve(container: &[u8], own: &[(String, String)]) -> Environment {
    let mut all = BTreeMap::new();
    for variable in container.split(|byte| *byte == 0) {
        if let Some(end @ 1..) = variable.iter().position(|byte| *byte == b'=') {
            let (name, value) = (&variable[..end], &variable[end + 1..]);
            all.insert(String::from_utf8_lossy(name).into_owned(), OsString::from_vec(value.to_vec()));
        }
    }
    let mut known: BTreeMap<&str, String> =
        all.iter().filter_map(|(name, value)| Some((name.as_str(), value.to_str()?.to_owned()))).collect();
    for (name, value) in own {
        let value = expand(value, |name| known.get(name).map(String::as_str));
        known.insert(name, value);
    }
    let set: BTreeMap<_, _> =
        own.iter().filter_map(|(name, _)| Some((name.clone(), known.get(name.as_str())?.into()))).collect();
    let mut found = Environment::default();
    for (name, value) in all {
        if set.contains_key(&name) {
            continue;
        }
        if is_left_out(&name) {
            let name = family(&name).map_or(name, |family| format!("{family}*"));
            // Sorted by name, so that a family's stand together. Ours are nobody's business.
            if name != "TOWLINE_*" && found.left_out.last() != Some(&name) {
                found.left_out.push(name);
            }
        } else {
            found.variables.insert(name.into(), value);
        }
    }
    // Neither can be handed to a process; the manifest's reader and the API server let none of them through.
    let possible = |name: &str, value: &OsString| {
        !name.is_empty() && !name.contains(['=', '\0']) && !value.as_encoded_bytes().contains(&0)
    };
    found.variables.extend(
        set.into_iter()
            .filter(|(name, value)| possible(name, value))
            .map(|(name, value)| (name.into(), value)),
    );
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(container: &str, own: &[(&str, &str)], expected: &[(&str, &str)], left_out: &[&str]) {
        let own: Vec<_> = own.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let found = resolve(container.as_bytes(), &own);
        let variables: BTreeMap<OsString, OsString> =
            expected.iter().map(|(name, value)| (name.into(), value.into())).collect();
        assert_eq!(found.variables, variables, "{container:?} {own:?}");
        assert_eq!(found.left_out, left_out, "{container:?} {own:?}");
    }

    #[test]
    fn the_containers_variables_come_and_the_manifests_win() {
        check("", &[], &[], &[]);
        check("A=1\0B=two=2\0C=\0", &[], &[("A", "1"), ("B", "two=2"), ("C", "")], &[]);
        // Of two the last counts; what has no name or no value is none.
        check("A=1\0A=2\0\0junk\0=x\0", &[], &[("A", "2")], &[]);
        check("A=1\0", &[("A", "mine"), ("B", "2")], &[("A", "mine"), ("B", "2")], &[]);
        check("TEXT=a\nb\0", &[], &[("TEXT", "a\nb")], &[]);
    }

    #[test]
    fn what_is_about_the_container_stays_there() {
        check(
            "PATH=/app/bin\0HOME=/root\0LD_PRELOAD=/x.so\0KUBERNETES_PORT=tcp://10.0.0.1:443\0KUBERNETES_SERVICE_PORT=443\0PORT=80\0",
            &[],
            &[("PORT", "80")],
            &["HOME", "KUBERNETES_*", "LD_*", "PATH"],
        );
        // But for what the manifest itself sets.
        check("NODE_OPTIONS=--require /x.js\0", &[("NODE_OPTIONS", "-i")], &[("NODE_OPTIONS", "-i")], &[]);
        check("TOWLINE_CONTAINER=a/b\0", &[], &[], &[]);
    }

    #[test]
    fn references_are_resolved_as_in_a_pod() {
        let own =
            [("URL", "http://$(HOST):$(PORT)/$(NONE)/$$(HOST)"), ("TWICE", "$(URL)"), ("BIN", "$(PATH)")];
        let url = "http://db:80/$(NONE)/$(HOST)";
        check(
            "HOST=db\0PORT=80\0PATH=/bin\0",
            &own,
            &[("HOST", "db"), ("PORT", "80"), ("URL", url), ("TWICE", url), ("BIN", "/bin")],
            &["PATH"],
        );
    }

    #[test]
    fn values_are_not_shown() {
        let text = format!("{:?}", resolve(b"TOKEN=canary\0PATH=canary\0", &[("A".into(), "canary".into())]));
        assert!(text.contains("TOKEN") && text.contains("PATH") && !text.contains("canary"), "{text}");
    }

    #[test]
    fn the_list_is_sorted_and_documented() {
        assert!(OF_THE_CONTAINER.is_sorted());
        let page = include_str!("../../../../docs/hybrid.md");
        for name in OF_THE_CONTAINER {
            assert!(page.contains(&format!("`{name}`")), "{name}");
        }
        for family in FAMILIES {
            assert!(page.contains(&format!("`{family}*`")), "{family}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_make_variables_that_a_process_can_be_given(
            container in prop::collection::vec(any::<u8>(), 0..300),
            own in prop::collection::vec((".{0,8}", ".{0,20}"), 0..8),
        ) {
            for (name, value) in resolve(&container, &own).variables {
                let (name, value) = (name.as_encoded_bytes(), value.as_encoded_bytes());
                prop_assert!(!name.is_empty() && !name.contains(&0) && !value.contains(&0));
                prop_assert!(!name.contains(&b'='));
            }
        }
    }
}
