//! Parameters that are changed in place while nobody else reads them, and in a copy while somebody does.

use std::sync::Arc;

/// Old buffers that are kept until nobody reads them any more.
const RETIRED_MAX: usize = 4;

/// The parameters of a training state. A transfer or a checkpoint that holds them keeps them as they were.
pub struct Parameters {
    current: Arc<Vec<f32>>,
    retired: Vec<Arc<Vec<f32>>>,
}

impl Parameters {
    /// Takes these.
    pub fn new(current: Arc<Vec<f32>>) -> Self {
        Self { current, retired: Vec::new() }
    }

    /// The newest, to be shared.
    pub fn shared(&self) -> &Arc<Vec<f32>> {
        &self.current
    }

    /// The newest, to be changed. What others hold stays as it is.
    pub fn to_mut(&mut self) -> &mut [f32] {
        if Arc::get_mut(&mut self.current).is_none() {
            self.leave_to_readers();
        }
        Arc::get_mut(&mut self.current).expect("made unique right before")
    }

    fn leave_to_readers(&mut self) {
        let free = self.retired.iter().position(|old| Arc::strong_count(old) == 1);
        let mut fresh = match free {
            Some(at) => self.retired.swap_remove(at),
            None => Arc::new(vec![0.0; self.current.len()]),
        };
        Arc::get_mut(&mut fresh).expect("nobody else holds it").copy_from_slice(&self.current);
        let old = std::mem::replace(&mut self.current, fresh);
        if self.retired.len() < RETIRED_MAX {
            self.retired.push(old);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_keep_what_they_have_and_buffers_are_used_again() {
        let mut parameters = Parameters::new(Arc::new(vec![1.0, 2.0]));
        let reader = parameters.shared().clone();
        parameters.to_mut()[0] = 9.0;
        assert_eq!((&reader[..], &parameters.shared()[..]), (&[1.0, 2.0][..], &[9.0, 2.0][..]));
        let first = Arc::as_ptr(&reader);
        drop(reader);
        let second = parameters.shared().clone();
        parameters.to_mut()[0] = 10.0;
        assert_eq!(Arc::as_ptr(parameters.shared()), first);
        assert_eq!(second[0], 9.0);
    }
}
