//! Lines of two texts side by side: the longest common ones stay, the others are marked.

/// Lines of one text that are compared; a relay.yaml with every default has some hundred.
const LINES_CAP: usize = 5000;

/// Unchanged lines shown around each change.
const CONTEXT: usize = 2;

/// `-` lines stand in the first text only, `+` lines in the second; empty when they are equal.
pub(super) fn diff(first: &str, second: &str) -> String {
    let (a, b): (Vec<_>, Vec<_>) =
        (first.lines().take(LINES_CAP).collect(), second.lines().take(LINES_CAP).collect());
    if a == b {
        return String::new();
    }
    // common[i][j]: how many lines of a[i..] and b[j..] can stay.
    let wide = b.len() + 1;
    let mut common = vec![0_u32; (a.len() + 1) * wide];
    for i in (0..a.len()).rev() {
        for j in (0..b.len()).rev() {
            common[i * wide + j] = if a[i] == b[j] {
                common[(i + 1) * wide + j + 1] + 1
            } else {
                common[(i + 1) * wide + j].max(common[i * wide + j + 1])
            };
        }
    }
    let mut lines = Vec::new();
    let (mut i, mut j) = (0, 0);
    while i < a.len() || j < b.len() {
        if i < a.len() && j < b.len() && a[i] == b[j] {
            lines.push((' ', a[i]));
            (i, j) = (i + 1, j + 1);
        } else if i < a.len()
            && (j == b.len() || common[(i + 1) * wide + j] >= common[i * wide + j + 1])
        {
            lines.push(('-', a[i]));
            i += 1;
        } else {
            lines.push(('+', b[j]));
            j += 1;
        }
    }
    near(&lines)
}

/// Only the changes and what stands around them.
fn near(lines: &[(char, &str)]) -> String {
    let changed = |at: usize| lines.get(at).is_some_and(|(mark, _)| *mark != ' ');
    let mut out = String::new();
    let mut left_out = false;
    for (at, (mark, line)) in lines.iter().enumerate() {
        if (at.saturating_sub(CONTEXT)..=at + CONTEXT).any(changed) {
            if left_out {
                out.push_str("...\n");
            }
            left_out = false;
            let line = format!("{mark} {line}");
            out.push_str(line.trim_end());
            out.push('\n');
        } else {
            left_out = true;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_marked_with_what_stands_around_them() {
        assert_eq!(diff("a\nb\n", "a\nb\n"), "");
        let before = "one\ntwo\nthree\nfour\nfive\nsix\nseven\n";
        let after = "one\ntwo\nthree\nfour\nFIVE\nsix\nseven\nmore\n";
        assert_eq!(
            diff(before, after),
            "...\n  three\n  four\n- five\n+ FIVE\n  six\n  seven\n+ more\n"
        );
        assert_eq!(diff("", "a\n"), "+ a\n");
    }
}
