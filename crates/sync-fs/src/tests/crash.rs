//! Killed at any moment, the tree is old or new, and the next session tidies up.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use towline_sync_core::message::Body;
use towline_sync_core::snapshot::Entry;

use super::{Desk, file, lines, link};
use crate::hook::Moment;

const MOMENTS: [Moment; 6] =
    [Moment::Write, Moment::Staged, Moment::Checked, Moment::Exchanged, Moment::Displaced, Moment::Judged];

/// What the hook throws: `resume_unwind` prints nothing.
struct Killed;

#[test]
fn the_tree_is_old_or_new() {
    type Case = (&'static [&'static str], Option<Entry>, Option<Entry>, &'static [&'static str]);
    let cases: [Case; 6] = [
        (&[], None, Some(file(b"new")), &["f new"]),
        (&["f old"], Some(file(b"old")), Some(file(b"new")), &["f new"]),
        (&["f old"], Some(file(b"old")), Some(link("x")), &["f -> x"]),
        (&["f old"], Some(file(b"old")), Some(Entry::Directory), &["f/"]),
        (&["f/"], Some(Entry::Directory), Some(file(b"new")), &["f new"]),
        (&["f old"], Some(file(b"old")), None, &[]),
    ];
    let mut kills = 0;
    for (before, from, to, after) in cases {
        for moment in MOMENTS {
            for (late_edit, batched) in [(false, false), (true, false), (false, true), (true, true)] {
                let mut desk = Desk::new(before);
                let name = desk.path().join("f");
                desk.hook(move |now, _| {
                    if late_edit && now == Moment::Checked && name.is_file() {
                        fs::write(&name, "edit").unwrap();
                    }
                    if now == moment {
                        resume_unwind(Box::new(Killed));
                    }
                    Ok(())
                });
                let apply = || match (&from, &to) {
                    (Some(Entry::File(from)), Some(to @ Entry::File(_))) if batched => {
                        desk.replace("f", *from, to.clone(), Body::Whole(b"new".to_vec()))
                    }
                    _ => desk.apply("f", from.clone(), to.clone(), b"new"),
                };
                let killed = catch_unwind(AssertUnwindSafe(apply)).is_err();
                kills += usize::from(killed);
                desk.reopen();
                desk.assert_swept();
                let case = format!("{from:?} {to:?} {moment:?} {late_edit}");
                let now = lines(desk.path());
                let trash = desk.trash();
                let known = [before, after, &["f edit"]];
                let gone_to_trash =
                    now.is_empty() && (trash.contains(&"old".into()) || trash.contains(&"edit".into()));
                assert!(known.iter().any(|lines| now == *lines) || gone_to_trash, "{case}: torn: {now:?}");
                if before == ["f old"] {
                    // The user's bytes are at their name or in the trash, whatever happened.
                    let all = format!("{now:?}{trash:?}");
                    assert!(all.contains("old") || all.contains("edit"), "{case}: {all}");
                }
                if late_edit && moment > Moment::Checked && from.is_some() && before == ["f old"] {
                    let all = format!("{now:?}{trash:?}");
                    assert!(all.contains("edit"), "{case}: {all}");
                }
            }
        }
    }
    assert!(kills > 30, "only {kills} applies were killed");
}
