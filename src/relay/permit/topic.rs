//! The topic of an APNs request: the `apns-topic` field, and the bundle id in the paths of
//! broadcast and channel management.

use crate::downstream::Head;

/// Every topic that a request names, the field first. Empty where it names none. A field that is
/// no text counts as an empty topic, which no list has.
pub fn named(head: &Head) -> Vec<&str> {
    let fields = head.headers.get_all("apns-topic").iter();
    let mut topics: Vec<&str> = fields.map(|value| value.to_str().unwrap_or_default()).collect();
    topics.extend(bundle(&head.target));
    topics
}

/// `/4/broadcasts/apps/BUNDLE`, `/1/apps/BUNDLE/channels`, `/1/apps/BUNDLE/all-channels`.
fn bundle(target: &str) -> Option<&str> {
    let path = target.split_once('?').map_or(target, |(path, _query)| path);
    let rest =
        path.strip_prefix("/4/broadcasts/apps/").or_else(|| path.strip_prefix("/1/apps/"))?;
    rest.split('/').next()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relay::fixture::head;

    #[test]
    fn field_and_path_both_name_topics() {
        let mut request = head("POST", "h.example", "/1/apps/com.example/all-channels?x");
        assert_eq!(named(&request), ["com.example"]);
        request.headers.append("apns-topic", "a".parse().unwrap());
        request.headers.append("apns-topic", "b".parse().unwrap());
        assert_eq!(named(&request), ["a", "b", "com.example"]);
        assert!(named(&head("POST", "h.example", "/3/device/ab")).is_empty());
    }
}
