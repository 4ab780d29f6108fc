//! The compact form says just what a map would.

use std::collections::BTreeMap;

use proptest::prelude::*;
use towline_sync_core::snapshot::{Entry, File, Hash, Opaque};

use super::*;
use crate::disk::Kind;

#[test]
fn a_stamp_is_no_time_that_a_write_could_give() {
    let check = |stamp: Timestamp, modified: Timestamp, taken: Timestamp, expected: bool| {
        let stat = Stat { modified, ..Stat::UNKNOWN };
        assert_eq!(is_distinct(&stat, stamp, taken), expected, "{stamp:?} {modified:?} {taken:?}");
    };
    check((100, 7_654_321), (100, 7_654_321), (100, 57_654_321), true);
    // Right now, or later.
    check((100, 7_654_321), (100, 7_654_321), (100, 17_654_321), false);
    check((101, 7_654_321), (101, 7_654_321), (100, 17_654_321), false);
    // The disk keeps microseconds, or seconds.
    check((100, 7_654_321), (100, 7_654_000), (100, 57_654_321), false);
    check((100, 7_654_000), (100, 7_654_000), (100, 57_654_321), false);
    // However few it keeps, that was too long ago.
    check((100, 0), (100, 0), (104, 0), true);
    check((100, 0), (100, 0), (103, 999_999_999), false);
    check((100, 5_000), (98, 0), (104, 0), false);
    check((i64::MIN, 1), (i64::MIN, 1), (i64::MAX, 0), true);
    let stamp = stamp();
    check(stamp, stamp, now(), !stamp.1.is_multiple_of(1000));
}

type Model = BTreeMap<RelPath, Seen>;

fn rel_path() -> BoxedStrategy<RelPath> {
    let name = prop_oneof![
        8 => "[ab]{1,3}",
        4 => "[a0./-]".prop_map(|name| format!("a{name}")).prop_filter("one name", |name| !name.contains('/')),
        2 => "[aäöü€𝄞]{1,3}",
        1 => "[\\x01-\\x1f ~]{1,3}",
        1 => (200..255_usize).prop_map(|length| "n".repeat(length)),
    ];
    let path = prop::collection::vec(name, 1..5).prop_map(|names| names.join("/"));
    let deep = (100..=256_usize, "[ab]").prop_map(|(depth, name)| vec![name; depth].join("/"));
    let long = "[ab]".prop_map(|name| format!("{}{name}", "long-name-of-a-folder/".repeat(186)));
    prop_oneof![20 => path, 1 => deep, 1 => long].prop_map(|path| RelPath::new(path).unwrap()).boxed()
}

fn timestamp() -> impl Strategy<Value = Timestamp> {
    prop_oneof![
        4 => (1_700_000_000..1_700_000_100_i64, 0..1_000_000_000_u32),
        1 => (1_700_000_000..1_700_000_100_i64).prop_map(|seconds| (seconds, 0)),
        1 => Just((0, 0)),
        1 => any::<(i64, u32)>(),
    ]
}

fn stat() -> BoxedStrategy<Stat> {
    let identity =
        (prop_oneof![6 => Just(5), 1 => any::<u64>()], prop_oneof![4 => 0..1000_u64, 1 => any::<u64>()])
            .prop_map(|(device, inode)| Identity { device, inode });
    let kind = prop::sample::select(vec![Kind::File, Kind::Directory, Kind::Symlink, Kind::Special]);
    let mode = prop_oneof![3 => Just(0o644_u32), 1 => Just(0o755), 1 => any::<u32>()];
    let size = prop_oneof![4 => 0..5000_u64, 1 => any::<u64>()];
    let owner = prop_oneof![4 => Just(0_u32), 1 => any::<u32>()];
    let times = (timestamp(), timestamp(), timestamp());
    let mount_root = prop::bool::weighted(0.05);
    (identity, kind, mode, size, times, owner, mount_root)
        .prop_map(|(identity, kind, mode, size, (modified, changed, born), owner, mount_root)| Stat {
            identity,
            kind,
            mode,
            size,
            modified,
            changed,
            born,
            owner,
            mount_root,
        })
        .boxed()
}

fn seen() -> BoxedStrategy<Seen> {
    let content = (any::<[u8; 32]>(), any::<(u64, bool)>(), prop::bool::weighted(0.8));
    let file = (stat(), content).prop_map(|(mut stat, (hash, (size, executable), is_real))| {
        let mut file = File { hash: Hash(hash), size, executable };
        if is_real {
            stat.kind = Kind::File;
            (file.size, file.executable) = (stat.size, stat.is_executable());
        }
        (Entry::File(file), stat)
    });
    let target = prop_oneof!["[a-z/.ü]{0,40}", "[a-z]{4000,4095}"];
    let entry = prop_oneof![
        8 => file,
        2 => stat().prop_map(|stat| (Entry::Directory, Stat { kind: Kind::Directory, ..stat })),
        1 => stat().prop_map(|stat| (Entry::Directory, stat)),
        2 => (stat(), target).prop_map(|(stat, target)| (Entry::Symlink { target }, Stat { kind: Kind::Symlink, ..stat })),
        1 => (stat(), prop::sample::select(&Opaque::ALL)).prop_map(|(stat, opaque)| (Entry::Opaque(opaque), stat)),
    ];
    (entry, prop::bool::weighted(0.2)).prop_map(|((entry, stat), racy)| Seen { entry, stat, racy }).boxed()
}

#[derive(Debug, Clone)]
enum Step {
    Insert(RelPath, Seen),
    /// Of what is there, the one of this number.
    Again(prop::sample::Index, Seen),
    Remove(prop::sample::Index),
    RemoveAny(RelPath),
}

fn step() -> BoxedStrategy<Step> {
    prop_oneof![
        8 => (rel_path(), seen()).prop_map(|(path, seen)| Step::Insert(path, seen)),
        1 => (any::<prop::sample::Index>(), seen()).prop_map(|(index, seen)| Step::Again(index, seen)),
        1 => any::<prop::sample::Index>().prop_map(Step::Remove),
        1 => rel_path().prop_map(Step::RemoveAny),
    ]
    .boxed()
}

fn made(entries: impl IntoIterator<Item = (RelPath, Seen)>) -> Known {
    let mut known = Known::default();
    for (path, seen) in entries {
        known.insert(&path, &seen);
    }
    known
}

/// Checks that it says what the map says, and is kept as it should be.
fn check(known: &Known, model: &Model) -> Result<(), TestCaseError> {
    let all: Vec<_> = model.iter().map(|(path, seen)| (path.clone(), seen.clone())).collect();
    prop_assert_eq!(known.iter().collect::<Vec<_>>(), all);
    prop_assert_eq!((known.len(), known.is_empty()), (model.len(), model.is_empty()));
    for index in 0..known.chunks.len() {
        let bytes = known.bytes(index);
        prop_assert!((1..=chunk::MAX_ENTRIES).contains(&chunk::count(bytes)));
        prop_assert!(bytes.len() <= chunk::LONGEST_BYTES);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn it_says_what_a_map_says(
        steps in prop::collection::vec(step(), 0..300),
        others in prop::collection::vec(rel_path(), 20),
        in_order: bool,
    ) {
        let (mut known, mut model) = (Known::default(), Model::new());
        let mut steps = steps;
        if in_order {
            steps.sort_by_key(|step| match step {
                Step::Insert(path, _) => Some(path.clone()),
                _ => None,
            });
        }
        for step in steps {
            let pick = |index: prop::sample::Index| {
                (!model.is_empty()).then(|| model.keys().nth(index.index(model.len())).unwrap().clone())
            };
            match step {
                Step::Insert(path, seen) => {
                    known.insert(&path, &seen);
                    model.insert(path, seen);
                }
                Step::Again(index, seen) => if let Some(path) = pick(index) {
                    known.insert(&path, &seen);
                    model.insert(path, seen);
                },
                Step::Remove(index) => if let Some(path) = pick(index) {
                    prop_assert_eq!(known.remove(&path), model.remove(&path));
                },
                Step::RemoveAny(path) => prop_assert_eq!(known.remove(&path), model.remove(&path)),
            }
            prop_assert_eq!(known.len(), model.len());
        }
        check(&known, &model)?;
        let mut cursor = known.cursor();
        for path in model.keys().cloned().collect::<Vec<_>>().iter().chain(&others) {
            prop_assert_eq!(&known.get(path), &model.get(path).cloned());
            prop_assert_eq!(known.contains(path), model.contains_key(path));
            let found = cursor.find(path.as_str()).map(|(_, seen)| seen);
            prop_assert_eq!(found, model.get(path).cloned());
            for folder in [Some(path.clone()), path.parent()] {
                let is_below = |at: &RelPath| folder.as_ref().is_none_or(|path| at == path || at.is_below(path));
                let below: Vec<_> = model.keys().filter(|at| is_below(at)).cloned().collect();
                prop_assert_eq!(known.at_or_below(folder.as_ref()), below);
            }
        }
        for count in [0, 1, 63, 64, 65, model.len() / 2, model.len()] {
            let mut walk = known.walk_at(count);
            let mut rest = Vec::new();
            while let Some(at) = walk.next() {
                rest.extend(at.rel_path());
            }
            prop_assert_eq!(rest, model.keys().skip(count).cloned().collect::<Vec<_>>());
        }
        let hashes: Vec<_> = model.values().filter_map(Seen::hash).collect();
        prop_assert_eq!(known.hashes().collect::<Vec<_>>(), hashes);
    }

    #[test]
    fn what_is_kept_and_what_is_new_are_all_there_is(
        old in prop::collection::btree_map(rel_path(), seen(), 0..200),
        kept in prop::collection::vec(any::<bool>(), 200),
        new in prop::collection::btree_map(rel_path(), seen(), 0..50),
    ) {
        let mut known = made(old.clone());
        let mut positions = known.positions();
        let mut cursor = known.cursor();
        let mut model = Model::new();
        for ((path, seen), kept) in old.iter().zip(kept) {
            let (position, found) = cursor.find(path.as_str()).unwrap();
            prop_assert_eq!(&found, seen);
            if kept {
                positions.insert(position);
                model.insert(path.clone(), found);
            }
        }
        let others: Vec<_> = old.keys().filter(|path| !model.contains_key(*path)).cloned().collect();
        prop_assert_eq!(known.others(&positions), others);
        known.update(&positions, made(new.clone()));
        model.extend(new);
        check(&known, &model)?;
    }

    #[test]
    fn what_is_written_down_is_read_again(all in prop::collection::btree_map(rel_path(), seen(), 0..200)) {
        let known = made(all.clone());
        let mut chunks: Vec<Vec<u8>> = Vec::new();
        let mut write = |bytes: &[u8]| {
            chunks.push(bytes.to_vec());
            Ok(())
        };
        known.write_down(&mut |_, seen| !seen.racy || seen.stat.size.is_multiple_of(2), &mut write).unwrap();
        let (mut read, mut last) = (Known::default(), Vec::new());
        for chunk in &chunks {
            prop_assert!(read.push_chunk(chunk, &mut last));
        }
        let model: Model = all
            .into_iter()
            .filter(|(_, seen)| matches!(seen.entry, Entry::File(_) | Entry::Directory))
            .filter(|(_, seen)| !seen.racy || seen.stat.size.is_multiple_of(2))
            .map(|(path, seen)| (path, Seen { racy: false, ..seen }))
            .collect();
        check(&read, &model)?;
        prop_assert!(!read.is_changed());
        if let Some(first) = chunks.first() {
            prop_assert!(!read.push_chunk(first, &mut last), "it does not come after the others");
        }
    }

    #[test]
    fn whatever_the_bytes_are_nothing_panics(
        all in prop::collection::btree_map(rel_path(), seen(), 1..30),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
        wanted in rel_path(),
    ) {
        let mut bytes = made(all.clone()).bytes(0).to_vec();
        for (index, byte) in damage {
            let index = index.index(bytes.len());
            bytes[index] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let mut last = Vec::new();
        let mut known = Known::default();
        if known.push_chunk(&bytes, &mut last) {
            // What is believed can be worked with.
            for path in all.keys().chain([&wanted]) {
                known.get(path);
                known.cursor().find(path.as_str());
                known.remove(path);
                known.insert(path, &all[all.keys().next().unwrap()]);
            }
        }
    }
}

#[test]
fn a_large_tree_takes_few_bytes() {
    let mut known = Known::default();
    let (mut inode, mut paths) = (1000_i64, 0);
    // As a walk comes by: a folder, what is in it, and then the folders in it.
    for folder in 0..500 {
        for number in (0..20).rev() {
            let path = format!(
                "packages/app-{:02}/src/components/part-{folder}/file-{}.tsx",
                folder % 50,
                number * 37 % 20
            );
            let path = RelPath::new(path).unwrap();
            inode += 1;
            let changed =
                (1_700_000_000 + inode / 100, u32::try_from(inode * 7_654_321 % 1_000_000_000).unwrap());
            let stat = Stat {
                identity: Identity { device: 5, inode: inode.cast_unsigned() },
                kind: Kind::File,
                mode: 0o644,
                size: 4000,
                modified: (1_690_000_000 - inode, changed.1),
                changed,
                born: changed,
                ..Stat::UNKNOWN
            };
            let file = File { hash: Hash::of(path.as_str().as_bytes()), size: 4000, executable: false };
            known.insert(&path, &Seen { entry: Entry::File(file), stat, racy: false });
            paths += path.as_str().len();
        }
    }
    known.close();
    let bytes: usize = known.chunks.iter().map(|chunk| chunk.len() + 32).sum();
    assert!(paths / known.len() > 45);
    assert!(
        bytes / known.len() < 85,
        "{} bytes an entry in {} chunks",
        bytes / known.len(),
        known.chunks.len()
    );
}
