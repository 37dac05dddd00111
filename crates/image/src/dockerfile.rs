//! stub
use crate::ImageError;
pub(crate) struct Instruction {
    pub line: usize,
    pub text: String,
}
pub(crate) fn parse(_lines: &[String]) -> Result<Vec<Instruction>, ImageError> {
    Ok(vec![])
}
