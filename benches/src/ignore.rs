//! Rule sets for the ignore benchmarks, and a tree of a monorepo that exists only as names.

use std::collections::BTreeMap;

use crate::Random;
use crate::monorepo::STEMS;

const TOPS: [&str; 4] = ["apps", "packages", "services", "tools"];
const FOLDERS: [&str; 12] = [
    "src",
    "lib",
    "test",
    "components",
    "internal",
    "assets",
    "api",
    "models",
    "utils",
    "dist",
    "build",
    "public",
];
const EXTENSIONS: [&str; 12] =
    ["ts", "tsx", "js", "json", "md", "go", "rs", "py", "map", "log", "css", "generated.ts"];

/// A set of ignore rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuleSet {
    /// That of `examples/monorepo`: 6 patterns.
    Example,
    /// What a monorepo of many languages ends up with: 300 patterns.
    Grown,
}

impl RuleSet {
    /// Returns the pattern lines.
    pub fn lines(self) -> Vec<&'static str> {
        let text = match self {
            Self::Example => include_str!("../../examples/monorepo/.stignore"),
            Self::Grown => include_str!("ignore/monorepo300.stignore"),
        };
        text.lines().filter(|line| !line.is_empty() && !line.starts_with("//")).collect()
    }
}

/// A folder's content by name.
#[derive(Debug, Default)]
pub struct Folder {
    /// The folders in it.
    pub folders: BTreeMap<String, Self>,
    /// The names of the files in it.
    pub files: Vec<String>,
}

impl Folder {
    /// Grows a tree of `count` files. Two in five lie in some `node_modules`.
    pub fn grow(count: usize) -> Self {
        let mut random = Random::new(5);
        let mut root = Self { files: vec![".env.example".to_owned(), ".env".to_owned()], ..Self::default() };
        let mut left = count.saturating_sub(root.files.len());
        for unit in 0.. {
            if left == 0 {
                break;
            }
            let top = root.folders.entry(TOPS[unit % TOPS.len()].to_owned()).or_default();
            let unit = top.folders.entry(format!("unit-{}", unit / TOPS.len())).or_default();
            unit.grow_sources(&mut random, &mut left, 4);
            if random.below(2) == 0 {
                let modules = unit.folders.entry("node_modules".to_owned()).or_default();
                for package in 0..12 {
                    let package = modules.folders.entry(format!("package-{package}")).or_default();
                    package.grow_sources(&mut random, &mut left, 2);
                }
            }
        }
        root
    }

    fn grow_sources(&mut self, random: &mut Random, left: &mut usize, depth: usize) {
        for number in 0..(3 + random.below(20)).min(*left) {
            let (stem, extension) = (random.pick(&STEMS), random.pick(&EXTENSIONS));
            self.files.push(format!("{stem}-{number}.{extension}"));
            *left -= 1;
        }
        if depth > 0 {
            for _ in 0..=random.below(4) {
                let folder = self.folders.entry(random.pick(&FOLDERS).to_owned()).or_default();
                if folder.files.is_empty() {
                    folder.grow_sources(random, left, depth - 1);
                }
            }
        }
    }

    /// Returns the paths of all files, in the order of a walk.
    pub fn paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        self.collect("", &mut paths);
        paths
    }

    fn collect(&self, prefix: &str, paths: &mut Vec<String>) {
        paths.extend(self.files.iter().map(|name| format!("{prefix}{name}")));
        for (name, folder) in &self.folders {
            folder.collect(&format!("{prefix}{name}/"), paths);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn inputs_are_what_they_say() {
        assert_eq!(RuleSet::Example.lines().len(), 6);
        let grown = RuleSet::Grown.lines();
        assert_eq!(grown.len(), 300);
        assert_eq!(grown.iter().collect::<HashSet<_>>().len(), 300);
        let paths = Folder::grow(20_000).paths();
        assert_eq!(paths.len(), 20_000);
        assert_eq!(paths.iter().collect::<HashSet<_>>().len(), 20_000);
        let modules = paths.iter().filter(|path| path.contains("/node_modules/")).count();
        assert!((6_000..10_000).contains(&modules), "{modules}");
    }
}
