//! The nearest known word to one that isn't known.

/// Words longer than this get no suggestion: the search costs the product of the lengths.
const MAX_LENGTH: usize = 64;

/// Returns the candidate that `word` was most likely meant to be, if one is near enough.
pub fn nearest<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    let word = simplified(word);
    if word.len() > MAX_LENGTH {
        return None;
    }
    let allowed = (word.len() / 3).max(1);
    candidates
        .into_iter()
        .filter(|candidate| candidate.len() <= MAX_LENGTH)
        .map(|candidate| (distance(&word, &simplified(candidate)), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Drops what people mix up without thinking: case, `-` and `_`.
fn simplified(word: &str) -> Vec<char> {
    word.chars()
        .take(MAX_LENGTH + 1)
        .filter(|c| !matches!(c, '-' | '_'))
        .flat_map(char::to_lowercase)
        .collect()
}

/// Counts the inserts, deletes, replacements and swaps of neighbours between two words.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut two_back: Vec<usize> = Vec::new();
    let mut previous: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let replace = previous[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = replace.min(previous[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(two_back[j - 2] + 1);
            }
        }
        two_back = std::mem::replace(&mut previous, row);
    }
    previous[b.len()]
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn finds_the_word_that_was_meant() {
        let known = ["sync", "image", "imagePullPolicy", "forward", "environment", "envFiles"];
        for (word, expected) in [
            ("sinc", Some("sync")),
            ("snyc", Some("sync")),
            ("Image", Some("image")),
            ("image_pull_policy", Some("imagePullPolicy")),
            ("forwards", Some("forward")),
            ("enviroment", Some("environment")),
            ("zzz", None),
            ("", None),
            ("i", None),
        ] {
            assert_eq!(nearest(word, known), expected, "{word}");
        }
        assert_eq!(nearest(&"sync".repeat(100), known), None);
    }
}
