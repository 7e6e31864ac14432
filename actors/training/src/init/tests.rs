use std::path::Path;

use neap_storage::object::Access;

use super::*;
use crate::data::{Input, SampleShape, TargetInfo, Targets};
use crate::model::{Batch, Mlp, MlpParams, Network, StandardNetwork, Write, to_safetensors};

const SHAPE: SampleShape = SampleShape { height: 1, width: 6, channels: 1 };

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn network() -> StandardNetwork<Mlp> {
    let target = TargetInfo::Classes(["a", "b", "c"].map(str::to_owned).to_vec());
    StandardNetwork::new(SHAPE, &target, &MlpParams { hidden1: 5, hidden2: 4 }).unwrap()
}

/// The weights of a file of PyTorch, whose layers are called `fc1` to `fc3` below `beginning`.
fn of_pytorch(file: &str, beginning: &str) -> InitWeights {
    let rename = (1..=3).map(|layer| (format!("{beginning}fc{layer}"), format!("layer{layer}"))).collect();
    InitWeights { path: fixture(file), rename, ..InitWeights::default() }
}

fn load(init: &InitWeights) -> Result<Vec<f32>, String> {
    let layout = network().layout().clone();
    init.load(&layout, layout.initial(1)).map_err(|error| error.to_string())
}

/// Samples, their classes, and the sum of the losses that PyTorch computes with the weights of the fixtures.
fn expected() -> (Batch, f64) {
    let text = std::fs::read(fixture("torch_expected.json")).unwrap();
    let expected: serde_json::Value = serde_json::from_slice(&text).unwrap();
    let numbers = |name: &str| expected[name].as_array().unwrap().iter().map(|number| number.as_f64().unwrap());
    let targets = Targets::Classes(numbers("classes").map(|class| class as u16).collect());
    let features = numbers("samples").map(|value| value as f32).collect();
    (Batch { features, targets }, expected["loss"].as_f64().unwrap())
}

#[test]
fn weights_of_pytorch_give_what_pytorch_gives() {
    let nested =
        InitWeights { ignore: vec!["model.batches_seen".to_owned()], ..of_pytorch("torch_nested.pt", "model.") };
    let files = [of_pytorch("torch_mlp.pt", ""), of_pytorch("torch_mlp_legacy.pth", ""), nested];
    let (batch, loss) = expected();
    let mut first = None;
    for init in files.into_iter().chain([of_pytorch("torch_mlp.safetensors", "")]) {
        let mut network = network();
        let weights = load(&init).unwrap();
        network.load(&weights);
        let ours = network.score(batch.clone()).loss;
        assert!((ours - loss).abs() < 1e-5, "{}: {ours} and {loss}", init.path.display());
        assert!(first.get_or_insert_with(|| weights.clone()) == &weights, "{}", init.path.display());
    }
}

#[test]
fn a_model_of_our_own_comes_back_bit_by_bit() {
    let network = network();
    let values: Vec<f32> = (0..network.layout().len()).map(|at| (at as f32).sin()).collect();
    let file = to_safetensors(network.layout(), &values, &Input::uniform(0.0, 1.0)).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let init = InitWeights { path: dir.path().join("model.safetensors"), ..InitWeights::default() };
    std::fs::write(&init.path, &file).unwrap();
    assert_eq!(load(&init).unwrap(), values);

    // The file that was accepted is the one that is used.
    let accepted = weights_digest(&init.path, &Access::with_variables([])).unwrap();
    let pinned = InitWeights { digest: Some(accepted), ..init.clone() };
    assert_eq!(load(&pinned).unwrap(), values);
    let mut flipped = file.clone();
    *flipped.last_mut().unwrap() ^= 1;
    std::fs::write(&init.path, flipped).unwrap();
    assert!(load(&pinned).unwrap_err().contains("have changed since the job was accepted"));

    // What is no number is no weight.
    let mut values = values;
    values[3] = f32::NAN;
    let file = to_safetensors(network.layout(), &values, &Input::uniform(0.0, 1.0)).unwrap();
    std::fs::write(&init.path, file).unwrap();
    let error = load(&init).unwrap_err();
    assert!(error.contains("layer1.weight has NaN at position 3"), "{error}");
}

#[test]
fn narrow_and_wide_weights_are_read_and_other_types_are_named() {
    let exact = load(&of_pytorch("torch_mlp.pt", "")).unwrap();
    for (file, off_max) in
        [("torch_half.pt", 1.0 / 2_048.0), ("torch_bfloat16.pt", 1.0 / 256.0), ("torch_double.pt", 0.0)]
    {
        let near = |(&read, &exact): (&f32, &f32)| (read - exact).abs() <= off_max * exact.abs() + 1e-7;
        let read = load(&of_pytorch(file, "")).unwrap();
        assert!(read.iter().zip(&exact).all(near), "{file}");
        assert_eq!(read == exact, off_max == 0.0, "{file}");
    }
    let error = load(&of_pytorch("torch_int.pt", "")).unwrap_err();
    assert!(error.contains(".weight is I32") || error.contains(".bias is I32"), "{error}");

    // The same as safetensors.
    let layout = network().layout().clone();
    let halves: Vec<u16> = exact.iter().map(|&value| half::bf16::from_f32(value).to_bits()).collect();
    let views = layout.places().iter().map(|place| {
        let bytes = bytemuck::cast_slice(&halves[place.range()]);
        let view = safetensors::tensor::TensorView::new(safetensors::Dtype::BF16, place.shape.clone(), bytes);
        (place.name.clone(), view.unwrap())
    });
    let counter = safetensors::tensor::TensorView::new(safetensors::Dtype::I64, vec![1], &[0; 8]).unwrap();
    let file = safetensors::serialize(views.chain([("steps".to_owned(), counter)]), None).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let init = InitWeights { path: dir.path().join("model.safetensors"), ..InitWeights::default() };
    std::fs::write(&init.path, file).unwrap();
    assert!(load(&init).unwrap_err().contains("steps is I64"));
    let init = InitWeights { ignore: vec!["steps".to_owned()], ..init };
    let wanted: Vec<f32> = halves.iter().map(|&bits| half::bf16::from_bits(bits).to_f32()).collect();
    assert_eq!(load(&init).unwrap(), wanted);
}

#[test]
fn tensors_that_do_not_fit_are_named_all_at_once() {
    let mut init = of_pytorch("torch_mlp.pt", "");
    init.rename.remove("fc3");
    let error = load(&init).unwrap_err();
    for wanted in ["torch_mlp.pt", "lacks layer3.weight, layer3.bias", "fresh", "has no fc3", "ignore"] {
        assert!(error.contains(wanted), "{wanted}: {error}");
    }
    // A new last layer: the file's is left out, the model's is drawn.
    init.ignore = vec!["fc3".to_owned()];
    init.fresh = vec!["layer3".to_owned()];
    let layout = network().layout().clone();
    let (weights, drawn) = (load(&init).unwrap(), layout.initial(1));
    let of = |name: &str| layout.places().iter().find(|place| place.name == name).unwrap().range();
    assert_eq!(weights[of("layer3.weight")], drawn[of("layer3.weight")]);
    assert_ne!(weights[of("layer1.weight")], drawn[of("layer1.weight")]);

    let mut swapped = of_pytorch("torch_mlp.pt", "");
    swapped.rename.insert("fc1".to_owned(), "layer2".to_owned());
    swapped.rename.insert("fc2".to_owned(), "layer1".to_owned());
    let error = load(&swapped).unwrap_err();
    assert!(error.contains("fc2.weight is [4, 5] and layer1.weight needs [5, 6]"), "{error}");
    assert!(error.contains("fc1.bias is [5] and layer2.bias needs [4]"), "{error}");
}

#[test]
fn files_that_are_none_are_refused_with_place_and_fix() {
    let dir = tempfile::tempdir().unwrap();
    let check = |name: &str, bytes: &[u8], wanted: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let error = load(&InitWeights { path, ..InitWeights::default() }).unwrap_err();
        assert!(error.contains(wanted) && error.contains(name), "{name}: {error}");
    };
    let whole = std::fs::read(fixture("torch_mlp.safetensors")).unwrap();
    check("cut.safetensors", &whole[..whole.len() - 1], "no weights that can be read");
    check("empty.safetensors", b"", "no weights that can be read");
    check("long.safetensors", &[0xff; 64], "no weights that can be read");
    let whole = std::fs::read(fixture("torch_mlp.pt")).unwrap();
    check("cut.pt", &whole[..whole.len() / 2], "no weights that can be read");
    check("text.pt", b"these are no weights", "no weights that can be read");
    // A pickle that would run a program in Python: `os.system` called with `true`.
    check("program.pt", b"cos\nsystem\n(S'true'\ntR.", "no weights that can be read");
    check("weights.onnx", b"", "does not say what it is");
    let nested = of_pytorch("torch_nested.pt", "model.");
    let error = load(&nested).unwrap_err();
    assert!(error.contains("batches_seen is I64") && error.contains("BF16"), "{error}");
    let absent = InitWeights { path: dir.path().join("absent.pt"), ..InitWeights::default() };
    assert!(load(&absent).unwrap_err().contains("failed to read the weights in"));
}

#[test]
fn frozen_tensors_have_no_gradient_and_the_others_the_same_one() {
    let init = InitWeights { freeze: vec!["layer1".to_owned(), "layer2.bias".to_owned()], ..InitWeights::default() };
    let plain = network();
    let layout = plain.layout().clone();
    let frozen = init.frozen(&layout).unwrap();
    assert_eq!(frozen.len(), 3);
    let mut partly = PartlyFrozen::over(Box::new(network()), &frozen);
    let mut plain: Box<dyn Network> = Box::new(plain);
    let (batch, _) = expected();
    let mut gradients = [vec![0.0; layout.len()], vec![0.0; layout.len()]];
    for (network, gradient) in [&mut plain, &mut partly].into_iter().zip(&mut gradients) {
        network.load(&layout.initial(3));
        network.gradient(batch.clone(), 0.5, gradient, Write::Replace);
        network.gradient(batch.clone(), 0.5, gradient, Write::Add);
    }
    let [plain, partly] = gradients;
    for at in 0..layout.len() {
        let wanted = if frozen.iter().any(|range| range.contains(&at)) { 0.0 } else { plain[at] };
        assert_eq!(partly[at].to_bits(), f32::to_bits(wanted), "{at}");
    }
    assert!(frozen.iter().all(|range| plain[range.clone()].iter().any(|slope| *slope != 0.0)));

    let wrong = InitWeights { freeze: vec!["layer9".to_owned()], ..InitWeights::default() };
    let error = wrong.frozen(&layout).unwrap_err().to_string();
    assert!(error.contains("`train.init.freeze` names `layer9`") && error.contains("layer1.weight"), "{error}");
}
