//! Parts of a glob → matcher tree, by the rules of the reference engine.
//!
//! The engine's answers depend on the shape of its tree, so the shape is part of the language: which
//! neighbours are glued together, which of them becomes the root, which shortcuts replace a subtree.

use super::syntax::{One, Part};
use super::tree::{Node, Tree};

/// Builds the node of a sequence of parts.
pub(super) fn sequence(parts: &[Part]) -> Node {
    if parts.is_empty() {
        return Node::Nothing;
    }
    assemble(glue_all(parts.iter().map(node).collect()))
}

fn node(part: &Part) -> Node {
    match part {
        Part::Text(text) => Node::text(text),
        Part::One(One::List { members, negated: false }) if members.chars().count() == 1 => {
            Node::text(members)
        }
        Part::One(one) => Node::One(one.clone()),
        Part::Any => Node::Any,
        Part::Super => Node::Super,
        Part::Alternatives(members) => {
            let members: Vec<&[Part]> = members.iter().map(Vec::as_slice).collect();
            alternatives(&members)
        }
    }
}

/// Builds the node of alternatives: what all of them begin and end with is taken out in front of
/// and behind them.
fn alternatives(members: &[&[Part]]) -> Node {
    let (left, right) = common_ends(members);
    if left == 0 && right == 0 {
        let mut nodes: Vec<Node> = members.iter().map(|member| sequence(member)).collect();
        return if nodes.len() == 1 { nodes.remove(0) } else { Node::alternatives(nodes) };
    }
    let mut remains: Vec<&[Part]> = Vec::new();
    for member in members {
        let remain = &member[left..member.len() - right];
        if !remains.contains(&remain) {
            remains.push(remain);
        }
    }
    let mut nodes = Vec::new();
    if left > 0 {
        nodes.push(sequence(&members[0][..left]));
    }
    match remains.as_slice() {
        [[]] => {}
        [remain] => nodes.push(sequence(remain)),
        remains => nodes.push(alternatives(remains)),
    }
    if right > 0 {
        nodes.push(sequence(&members[0][members[0].len() - right..]));
    }
    assemble(glue_all(nodes))
}

/// Counts the parts that all members begin with and those that all end with. Both are searched at
/// once, from the ends of the shortest member towards its middle, and never overlap.
fn common_ends(members: &[&[Part]]) -> (usize, usize) {
    let shortest = (0..members.len()).min_by_key(|&index| members[index].len());
    let Some(shortest) = shortest.filter(|_| members.len() > 1) else { return (0, 0) };
    let model = members[shortest];
    let (mut left, mut right) = (0, 0);
    let (mut left_ended, mut right_ended) = (false, false);
    for front in 0..model.len() {
        if left + right >= model.len() || (left_ended && right_ended) {
            break;
        }
        let back = model.len() - 1 - front;
        for (index, member) in members.iter().enumerate() {
            if index == shortest {
                continue;
            }
            left_ended |= model[front] != member[front];
            right_ended |= !left_ended && back <= front;
            right_ended |= model[back] != member[member.len() - 1 - front];
        }
        left += usize::from(!left_ended);
        right += usize::from(!right_ended);
    }
    (left, right)
}

/// Replaces runs of nodes by one node, the widest run first, until none is left.
fn glue_all(mut nodes: Vec<Node>) -> Vec<Node> {
    while let Some(Run { start, end, chars }) = best_run(&nodes) {
        let glued = if chars.is_some() {
            Node::row(nodes[start..end].to_vec())
        } else {
            every(&nodes[start..end], nodes[start].separators().unwrap_or_default())
        };
        nodes.splice(start..end, [glued]);
    }
    nodes
}

/// Neighbours that are glued to one node.
struct Run {
    start: usize,
    end: usize,
    /// How many characters they take together, if each takes a fixed number.
    chars: Option<usize>,
}

/// Finds the run to glue next: the first, unless a later one covers more nodes or has a larger
/// fixed length. Only the longest run at each start can win: its parts are of the same kind and
/// neither longer nor wider.
fn best_run(nodes: &[Node]) -> Option<Run> {
    let mut best: Option<Run> = None;
    for start in 0..nodes.len() {
        let Some(run) = longest_run(nodes, start) else { continue };
        let wins = best.as_ref().is_none_or(|best| {
            let longer = matches!((best.chars, run.chars), (Some(old), Some(new)) if new > old);
            longer || run.end - run.start > best.end - best.start
        });
        if wins {
            best = Some(run);
        }
    }
    best
}

/// Finds the longest run of two or more nodes that begins at `start`, if there is one.
fn longest_run(nodes: &[Node], start: usize) -> Option<Run> {
    let nodes = nodes.get(start..)?;
    let separators = nodes.first()?.separators();
    let loose = match separators {
        Some(_) => nodes.iter().take_while(|node| node.separators() == separators).count(),
        None => 0,
    };
    let fixed = nodes.iter().take_while(|node| node.chars().is_some()).count();
    let width = loose.max(fixed);
    // What takes a fixed number of characters is a row, unless it is as long as a run of the other kind.
    let chars = (fixed > loose).then(|| nodes[..fixed].iter().filter_map(Node::chars).sum());
    (width >= 2).then_some(Run { start, end: start + width, chars })
}

/// Glues nodes that differ only in how many characters other than `separators` they take.
fn every(nodes: &[Node], separators: &str) -> Node {
    if nodes.iter().all(|node| matches!(node, Node::Super)) {
        return Node::Super;
    }
    if nodes.iter().all(|node| matches!(node, Node::Any)) {
        return Node::Any;
    }
    let ones = nodes.iter().filter(|node| matches!(node, Node::One(_))).count();
    Node::Every { min: ones, max: (ones == nodes.len()).then_some(ones), without: separators.into() }
}

/// Makes one node of glued ones: the last of the longest fixed ones becomes the root, what stands
/// before and behind it the branches.
fn assemble(mut nodes: Vec<Node>) -> Node {
    if nodes.len() == 1 {
        return nodes.remove(0);
    }
    let root = (0..nodes.len())
        .filter(|&index| nodes[index].chars().is_some())
        .max_by_key(|&index| nodes[index].chars())
        .unwrap_or(0);
    let right = nodes.split_off(root + 1);
    let value = nodes.pop().unwrap_or(Node::Nothing);
    let branch = |nodes: Vec<Node>| if nodes.is_empty() { None } else { Some(assemble(nodes)) };
    shortcut(Tree::new(value, branch(nodes), branch(right)))
}

/// Replaces a tree around a text by the simple test that it stands for.
fn shortcut(tree: Tree) -> Node {
    match (tree.left(), tree.value(), tree.right()) {
        (Some(Node::Super), Node::Text { text, .. }, Some(Node::Super)) => Node::Contains(text.clone()),
        (Some(Node::Super), Node::Text { text, .. }, None) => Node::Suffix(text.clone()),
        (None, Node::Text { text, .. }, Some(Node::Super)) => Node::Prefix(text.clone()),
        (None, Node::Text { text, .. }, Some(Node::Suffix(suffix))) => {
            Node::PrefixSuffix(text.clone(), suffix.clone())
        }
        (Some(Node::Prefix(prefix)), Node::Text { text, .. }, None) => {
            Node::PrefixSuffix(prefix.clone(), text.clone())
        }
        (Some(Node::Any), Node::Text { text, .. }, None) => Node::SuffixAny(text.clone()),
        (None, Node::Text { text, .. }, Some(Node::Any)) => Node::PrefixAny(text.clone()),
        _ => Node::Tree(Box::new(tree)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::syntax::parse;
    use super::*;

    #[track_caller]
    fn check(pattern: &str, expected: &Node) {
        assert_eq!(&sequence(&parse(pattern).unwrap()), expected, "{pattern}");
    }

    #[test]
    fn shortcuts() {
        check("", &Node::Nothing);
        check("[a]", &Node::text("a"));
        check("**/x/**", &Node::Contains("/x/".into()));
        check("**/x", &Node::Suffix("/x".into()));
        check("x/**", &Node::Prefix("x/".into()));
        check("*.o", &Node::SuffixAny(".o".into()));
        check("a*", &Node::PrefixAny("a".into()));
        check("a**b", &Node::PrefixSuffix("a".into(), "b".into()));
        check(
            "**?*",
            &Node::Tree(Box::new(Tree::new(
                Node::Super,
                None,
                Some(Node::Every { min: 1, max: None, without: "/".into() }),
            ))),
        );
    }

    #[test]
    fn common_ends_are_taken_out_of_alternatives() {
        let text = Node::text;
        check(
            "{?x,?y}",
            &Node::row(vec![Node::One(One::Wildcard), Node::alternatives(vec![text("x"), text("y")])]),
        );
        check("{a,a}", &text("a"));
        check(
            "{a*,b*}",
            &Node::Tree(Box::new(Tree::new(
                Node::alternatives(vec![text("a"), text("b")]),
                None,
                Some(Node::Any),
            ))),
        );
    }
}
