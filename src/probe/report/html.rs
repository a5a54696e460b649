//! placeholder
/// page
pub fn page(_report: &super::Report) -> String {
    String::new()
}
