//! What a glob means by the book: the set of positions that each part can end at.
//!
//! It answers where the reference engine has no answer, in time `parts * path length`.

use super::syntax::Part;

/// Tells whether `parts` match the whole of `path`.
pub(super) fn matches(parts: &[Part], path: &str) -> bool {
    let mut start = vec![false; path.len() + 1];
    start[0] = true;
    ends(parts, path, start)[path.len()]
}

/// Returns the byte positions where `parts` can end, having begun at one of `from`.
fn ends(parts: &[Part], path: &str, mut from: Vec<bool>) -> Vec<bool> {
    for part in parts {
        if !from.contains(&true) {
            break;
        }
        from = step(part, path, &from);
    }
    from
}

fn step(part: &Part, path: &str, from: &[bool]) -> Vec<bool> {
    let mut to = vec![false; from.len()];
    let starts = || from.iter().enumerate().filter(|(_, reached)| **reached).map(|(at, _)| at);
    match part {
        Part::Text(text) => {
            for at in starts().filter(|&at| path[at..].starts_with(&**text)) {
                to[at + text.len()] = true;
            }
        }
        Part::One(one) => {
            for at in starts() {
                if let Some(c) = path[at..].chars().next().filter(|&c| one.fits(c)) {
                    to[at + c.len_utf8()] = true;
                }
            }
        }
        Part::Any | Part::Super => {
            let crosses = matches!(part, Part::Super);
            let mut running = false;
            for at in (0..=path.len()).filter(|&at| path.is_char_boundary(at)) {
                running |= from[at];
                to[at] = running;
                running &= crosses || !path[at..].starts_with('/');
            }
        }
        Part::Alternatives(members) => {
            for member in members {
                for (to, reached) in to.iter_mut().zip(ends(member, path, from.to_vec())) {
                    *to |= reached;
                }
            }
        }
    }
    to
}
