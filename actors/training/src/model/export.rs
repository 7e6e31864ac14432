//! A trained model as safetensors: the tensors by name, and what its input has to look like. The bytes depend on these
//! alone, so equal models are equal files.

use safetensors::tensor::{Dtype, SafeTensorError, TensorView};

use super::Layout;
use crate::data::Input;

/// The tensor that holds what is taken from each feature.
const INPUT_MEAN: &str = "input.mean";
/// The tensor that holds what each feature is then multiplied with.
const INPUT_SCALE: &str = "input.scale";

/// The model file of these parameters.
///
/// # Errors
///
/// [`SafeTensorError`] where the layout does not fit the format.
pub fn to_safetensors(layout: &Layout, parameters: &[f32], input: &Input) -> Result<Vec<u8>, SafeTensorError> {
    let view = |shape: Vec<usize>, values| TensorView::new(Dtype::F32, shape, bytemuck::cast_slice(values));
    let mut tensors = Vec::new();
    for place in layout.places() {
        tensors.push((place.name.as_str(), view(place.shape.clone(), &parameters[place.range()])?));
    }
    let (mean, scale) = (input.mean(), input.scale());
    tensors.push((INPUT_MEAN, view(vec![mean.len()], &mean)?));
    tensors.push((INPUT_SCALE, view(vec![scale.len()], &scale)?));
    safetensors::serialize(tensors, None)
}
