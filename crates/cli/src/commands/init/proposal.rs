//! What is proposed: dev services, and the files that say so.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::{Path, PathBuf};

use towline_manifest::{Node, Scalar, Span, Value};

use super::Init;
use super::ecosystem::{Ecosystem, ignore_file};
use super::survey::Project;
use super::workloads::Workload;

/// Where the files go in the container when nobody says.
const WORKDIR: &str = "/app";

/// What would be written.
pub(super) struct Proposal {
    devs: Vec<Dev>,
    findings: Vec<String>,
    /// Deployments that none of the projects is called like.
    others: Vec<String>,
}

struct Dev {
    name: String,
    image: Option<String>,
    command: Option<String>,
    /// The folder that is synced, relative to the repository's root.
    root: PathBuf,
    /// The project's folder inside it.
    inside: PathBuf,
    remote: String,
    forwards: Vec<String>,
    ecosystems: Vec<Ecosystem>,
}

impl Proposal {
    /// Makes a proposal of what was found; what the command line says counts.
    pub(super) fn new(
        folder: &Path,
        projects: &[Project],
        workloads: Option<&[Workload]>,
        args: &Init,
    ) -> Self {
        let known: Vec<&Workload> = workloads.into_iter().flatten().collect();
        let mut proposal = Self { devs: Vec::new(), findings: Vec::new(), others: Vec::new() };
        for project in projects {
            proposal.findings.push(found(project));
        }
        if projects.is_empty() {
            proposal
                .findings
                .push("no language is known here: say what to run with --image and --command".to_owned());
        }
        if let Some(workloads) = workloads {
            let names: Vec<_> = workloads.iter().map(|workload| workload.name.as_str()).collect();
            let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            proposal.findings.push(format!("Deployments of the namespace: {names}"));
        }
        let here = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let bare = [nothing(&here)];
        let projects = if projects.is_empty() { &bare[..] } else { projects };
        // One name means one dev service: that of the project called so, else of the first.
        let chosen: Vec<&Project> = match &args.name {
            Some(name) => vec![
                projects
                    .iter()
                    .find(|project| project.names().any(|own| own == *name))
                    .unwrap_or(&projects[0]),
            ],
            None => projects.iter().collect(),
        };
        let mut taken = BTreeSet::new();
        for project in &chosen {
            let matching = known.iter().find(|workload| project.names().any(|name| name == workload.name));
            let only = (chosen.len() == 1 && known.len() == 1).then(|| known[0]);
            let workload = matching.copied().or(only);
            let name = args.name.clone().or_else(|| workload.map(|workload| workload.name.clone()));
            let mut name = name.or_else(|| project.names().next()).unwrap_or_else(|| "app".to_owned());
            while !taken.insert(name.clone()) {
                name.push_str("-2");
            }
            let ports =
                if project.ports.is_empty() { workload.map(|workload| workload.ports.clone()) } else { None };
            let ports = ports.unwrap_or_else(|| project.ports.clone());
            proposal.devs.push(Dev::new(name, project, &ports, args));
        }
        proposal.others =
            known.iter().map(|workload| workload.name.clone()).filter(|name| !taken.contains(name)).collect();
        proposal
    }

    /// Returns what was found, a line each.
    pub(super) fn findings(&self) -> Vec<String> {
        self.findings.clone()
    }

    /// Returns the text of okteto.yml.
    pub(super) fn manifest(&self) -> String {
        let mut text =
            "# What `towline up` does, for each service. All fields: towline manifest schema\ndev:\n"
                .to_owned();
        for dev in &self.devs {
            dev.write(&mut text);
        }
        if !self.others.is_empty() {
            // Writing into a string can't fail.
            let _ = writeln!(text, "# Other Deployments of the namespace: {}", self.others.join(", "));
        }
        text
    }

    /// Returns the text of a `.stignore` for each folder that is synced.
    pub(super) fn ignore_files(&self) -> BTreeMap<PathBuf, String> {
        let mut ecosystems: BTreeMap<PathBuf, Vec<Ecosystem>> = BTreeMap::new();
        for dev in &self.devs {
            ecosystems.entry(dev.root.clone()).or_default().extend(&dev.ecosystems);
        }
        ecosystems
            .into_iter()
            .map(|(root, mut list)| {
                list.sort();
                list.dedup();
                (root, ignore_file(&list))
            })
            .collect()
    }
}

impl Dev {
    fn new(name: String, project: &Project, ports: &[u16], args: &Init) -> Self {
        let own = project.ecosystems.first().map(|ecosystem| ecosystem.image(project.tool == Some("gradle")));
        let image = args.image.clone().or_else(|| project.image.clone()).or_else(|| own.map(str::to_owned));
        let remote = args.workdir.clone().or_else(|| project.workdir.clone());
        // A port that only root may listen on gets a neighbour above.
        let local = |port: u16| if port < 1024 { port + 8000 } else { port };
        let forwards = if args.forward.is_empty() {
            ports.iter().map(|port| format!("{}:{port}", local(*port))).collect()
        } else {
            args.forward.clone()
        };
        Self {
            name,
            image,
            command: args.command.clone().or_else(|| project.command.clone()),
            root: project.root.clone(),
            inside: project.folder.strip_prefix(&project.root).unwrap_or(Path::new("")).to_owned(),
            remote: remote.unwrap_or_else(|| WORKDIR.to_owned()),
            forwards,
            ecosystems: project.ecosystems.clone(),
        }
    }

    fn write(&self, text: &mut String) {
        let mut line = |indent: usize, words: String| {
            text.push_str(&" ".repeat(indent));
            text.push_str(&words);
            text.push('\n');
        };
        line(2, format!("{}:", quoted(&self.name)));
        if let Some(image) = &self.image {
            line(4, format!("image: {}", quoted(image)));
        }
        // A workspace is run from its root.
        let workdir = if self.command.is_some() || self.inside.as_os_str().is_empty() {
            self.remote.clone()
        } else {
            format!("{}/{}", self.remote, self.inside.display())
        };
        line(4, format!("workdir: {}", quoted(&workdir)));
        match &self.command {
            Some(command) => line(4, format!("command: {}", quoted(command))),
            None => line(4, "command: bash".to_owned()),
        }
        let local = self.root.display().to_string();
        let local = if local.is_empty() { ".".to_owned() } else { local };
        line(4, "sync:".to_owned());
        line(6, format!("- {}", quoted(&format!("{local}:{}", self.remote))));
        if !self.forwards.is_empty() {
            line(4, "forward:".to_owned());
            for forward in &self.forwards {
                line(6, format!("- {}", quoted(forward)));
            }
        }
    }
}

impl Project {
    /// Returns the names that a workload of this project may have, the likeliest first.
    fn names(&self) -> impl Iterator<Item = String> {
        let folder = self.folder.file_name().map(|name| name.to_string_lossy().into_owned());
        let short = self.name.rsplit('/').next().map(str::to_owned);
        [folder, short]
            .into_iter()
            .flatten()
            .map(|name| kubernetes_name(&name))
            .filter(|name| !name.is_empty())
    }
}

/// A folder of which nothing is known.
fn nothing(name: &str) -> Project {
    Project {
        folder: PathBuf::new(),
        root: PathBuf::new(),
        name: name.to_owned(),
        ecosystems: Vec::new(),
        tool: None,
        command: None,
        image: None,
        workdir: None,
        ports: Vec::new(),
        dockerfile: false,
    }
}

fn found(project: &Project) -> String {
    let place = project.folder.display().to_string();
    let place = if place.is_empty() { ".".to_owned() } else { place };
    let languages: Vec<_> = project.ecosystems.iter().map(|ecosystem| ecosystem.name()).collect();
    let tool = project.tool.map(|tool| format!(" with {tool}")).unwrap_or_default();
    let docker = if project.dockerfile { ", a Dockerfile" } else { "" };
    let part = if project.root == project.folder { "" } else { ", part of a workspace" };
    format!("{place}: {}{tool}{docker}{part}", languages.join(" and "))
}

/// Returns a name as Kubernetes takes it.
fn kubernetes_name(name: &str) -> String {
    let name: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect();
    name.trim_matches('-').chars().take(63).collect()
}

/// Returns text as YAML has it.
fn quoted(text: &str) -> String {
    let value = Value::Scalar(Scalar { text: text.to_owned(), plain: false });
    towline_manifest::yaml(&Node { value, span: Span::default() }, &|_| None).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        init: Init,
    }

    fn workloads(names: &[&str]) -> Vec<Workload> {
        names.iter().map(|name| Workload { name: (*name).to_owned(), ports: vec![8080] }).collect()
    }

    fn project(folder: &str) -> Project {
        let folder = PathBuf::from(folder);
        Project { root: folder.clone(), folder, ecosystems: vec![Ecosystem::Go], ..nothing("shop") }
    }

    #[test]
    fn services_are_called_like_the_deployments_of_the_cluster() {
        let names = |projects: &[Project], there: Option<&[Workload]>, words: &[&str]| {
            let line = Line::parse_from([&["init"], words].concat());
            let proposal = Proposal::new(Path::new("/x/shop"), projects, there, &line.init);
            (proposal.devs.iter().map(|dev| dev.name.clone()).collect::<Vec<_>>(), proposal.others)
        };
        for (projects, there, words, devs, others) in [
            (vec![project("")], None, vec![], vec!["shop"], vec![]),
            (vec![project("")], Some(vec!["backend"]), vec![], vec!["backend"], vec![]),
            (vec![project("")], Some(vec!["db", "shop"]), vec![], vec!["shop"], vec!["db"]),
            (
                vec![project("My_Api"), project("web")],
                Some(vec!["my-api", "x"]),
                vec![],
                vec!["my-api", "web"],
                vec!["x"],
            ),
            (vec![project("a/api"), project("b/api")], None, vec![], vec!["api", "api-2"], vec![]),
            (
                vec![project("api"), project("web")],
                Some(vec!["web"]),
                vec!["--name", "web"],
                vec!["web"],
                vec![],
            ),
            (vec![], Some(vec![]), vec!["--name", "x"], vec!["x"], vec![]),
        ] {
            let there = there.map(|names| workloads(&names));
            let found = names(&projects, there.as_deref(), &words);
            let expected: Vec<String> = devs.into_iter().map(str::to_owned).collect();
            assert_eq!(found, (expected, others.into_iter().map(str::to_owned).collect()));
        }
    }

    #[test]
    fn ports_come_from_the_workload_when_the_project_tells_none() {
        let line = Line::parse_from(["init"]);
        let there = workloads(&["shop"]);
        let proposal = Proposal::new(Path::new("/x/shop"), &[project("")], Some(&there), &line.init);
        assert_eq!(proposal.devs[0].forwards, ["8080:8080"]);
        let own = Project { ports: vec![80], ..project("") };
        let proposal = Proposal::new(Path::new("/x/shop"), &[own], Some(&there), &line.init);
        assert_eq!(proposal.devs[0].forwards, ["8080:80"]);
    }
}
