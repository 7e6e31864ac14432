//! What each shape would give a job: its goodput, that is throughput times statistical efficiency, with the best batch.

use super::allocation::split_batch;
use super::history::Noise;
use super::throughput::StepTimeModel;
use super::view::{AppView, Batch, ClusterView, Demand, GpuTypeIndex, GpuTypeView, JobView, Shape};

/// How many total batches are tried on a shape, in equal ratios between the smallest and the largest. With 24 of them
/// the best is missed by less than a tenth, over which goodput is flat.
const BATCHES_TRIED: u32 = 24;

/// One way to run an iteration.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Candidate {
    batch: Batch,
    /// The total batch.
    total: u32,
    /// The total batch relative to the initial one.
    scale: f64,
    /// Predicted, seconds.
    iteration_seconds: f64,
}

/// A shape and the ways to run an iteration on it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ShapeOptions {
    pub(super) shape: Shape,
    candidates: Vec<Candidate>,
}

impl ShapeOptions {
    /// Every useful batch of an elastic job on a shape. `None` where none is allowed.
    pub(super) fn elastic(app: &AppView, model: &StepTimeModel, shape: Shape) -> Option<Self> {
        let on = app.by_type.get(shape.gpu_type.0)?.as_ref()?;
        let smallest = app.batch_initial.max(on.local_batch_min * shape.gpus);
        if smallest > app.batch_max {
            return None;
        }
        let growth = f64::from(app.batch_max) / f64::from(smallest);
        let totals = (0..BATCHES_TRIED).map(|number| {
            let exponent = f64::from(number) / f64::from(BATCHES_TRIED - 1);
            (f64::from(smallest) * growth.powf(exponent)).round() as u32
        });
        let mut options = Self::of(app, model, shape, totals)?;
        options.candidates.retain(|candidate| candidate.batch.local >= on.local_batch_min);
        options.drop_dominated();
        (!options.candidates.is_empty()).then_some(options)
    }

    /// The one batch of a rigid job on a shape.
    pub(super) fn rigid(app: &AppView, model: &StepTimeModel, shape: Shape, batch: u32) -> Option<Self> {
        Self::of(app, model, shape, std::iter::once(batch))
    }

    fn of(app: &AppView, model: &StepTimeModel, shape: Shape, totals: impl Iterator<Item = u32>) -> Option<Self> {
        let on = app.by_type.get(shape.gpu_type.0)?.as_ref()?;
        let times = model.on(app, shape)?;
        let mut candidates: Vec<Candidate> = totals
            .map(|total| {
                let mut batch = split_batch(total, shape.gpus, on.local_batch_max, app.batch_initial);
                let passes = batch.accumulation + 1;
                batch.local = batch.local.min(app.batch_max / (shape.gpus * passes)).max(1);
                let total = batch.total(shape.gpus);
                Candidate {
                    batch,
                    total,
                    scale: f64::from(total) / f64::from(app.batch_initial),
                    iteration_seconds: times.iteration(batch.local, batch.accumulation).max(1e-9),
                }
            })
            .collect();
        candidates.dedup_by_key(|candidate| candidate.batch);
        Some(Self { shape, candidates })
    }

    /// A larger batch gains more, so a candidate that is slower and smaller than another is never chosen.
    fn drop_dominated(&mut self) {
        let mut kept: Vec<Candidate> = Vec::new();
        for candidate in self.candidates.drain(..).rev() {
            if kept
                .iter()
                .all(|better| better.scale < candidate.scale || better.iteration_seconds > candidate.iteration_seconds)
            {
                kept.push(candidate);
            }
        }
        kept.reverse();
        self.candidates = kept;
    }

    /// The best goodput, in iterations at the initial batch per second, and the batch that gives it.
    pub(super) fn best(&self, noise: Noise<'_>) -> (f64, Batch) {
        let mut best = (0.0, Batch { local: 1, accumulation: 0 });
        for candidate in &self.candidates {
            let gain = noise.at(candidate.total).gain(candidate.scale);
            let goodput = gain / candidate.iteration_seconds;
            if goodput > best.0 {
                best = (goodput, candidate.batch);
            }
        }
        best
    }
}

/// The shapes that are tried for an elastic job: powers of two within a node, then whole nodes. Such sizes always pack.
pub(super) fn elastic_shapes(gpu_types: &[GpuTypeView]) -> Vec<Shape> {
    let of_type = |(index, gpu): (usize, &GpuTypeView)| {
        let gpu_type = GpuTypeIndex(index);
        let per_node = gpu.gpus_per_node;
        let in_node = (0..32).map(|power| 1 << power).take_while(move |gpus| *gpus < per_node);
        let in_node = in_node.map(move |gpus| Shape { gpu_type, nodes: 1, gpus });
        let whole = (1..=gpu.nodes.min(gpu.nodes_per_job_max)).map(move |nodes| Shape {
            gpu_type,
            nodes,
            gpus: nodes * per_node,
        });
        in_node.chain(whole)
    };
    gpu_types.iter().enumerate().flat_map(of_type).collect()
}

/// The shapes of so many GPUs on the fewest nodes, one for each type that can hold them.
pub(super) fn rigid_shapes(gpu_types: &[GpuTypeView], gpus: u32) -> Vec<Shape> {
    let on_type = |(index, gpu): (usize, &GpuTypeView)| {
        let nodes = gpus.div_ceil(gpu.gpus_per_node.max(1));
        let fits = nodes <= gpu.nodes.min(gpu.nodes_per_job_max);
        fits.then_some(Shape { gpu_type: GpuTypeIndex(index), nodes, gpus })
    };
    gpu_types.iter().enumerate().filter_map(on_type).collect()
}

/// The options of every application's elastic jobs, made anew when its model has learnt something.
#[derive(Debug, Clone, Default)]
pub(super) struct OptionBook {
    by_app: Vec<(u64, Vec<ShapeOptions>)>,
    shapes: Vec<Shape>,
    gpu_types: Vec<GpuTypeView>,
}

impl OptionBook {
    /// Brings the options of all applications up to date.
    pub(super) fn refresh(&mut self, view: &ClusterView<'_>, models: &[StepTimeModel], explore: u32) {
        if self.gpu_types != view.gpu_types {
            self.shapes = elastic_shapes(view.gpu_types);
            self.gpu_types = view.gpu_types.to_vec();
            self.by_app.clear();
        }
        for (index, (app, model)) in view.apps.iter().zip(models).enumerate() {
            let version = model.version() + 1;
            if self.by_app.get(index).is_some_and(|known| known.0 == version) {
                continue;
            }
            let gpus_max = model.gpus_seen_max().max(1).saturating_mul(explore);
            let shapes = self.shapes.iter().filter(|shape| shape.gpus <= gpus_max);
            let options = shapes.filter_map(|shape| ShapeOptions::elastic(app, model, *shape)).collect();
            if self.by_app.len() <= index {
                self.by_app.resize(index + 1, (0, Vec::new()));
            }
            self.by_app[index] = (version, options);
        }
    }

    /// The goodput of a job on every shape it could have.
    pub(super) fn goodputs(
        &self,
        view: &ClusterView<'_>,
        model: &StepTimeModel,
        job: &JobView,
        noise: Noise<'_>,
    ) -> Vec<(Shape, f64)> {
        let of = |options: &ShapeOptions| (options.shape, options.best(noise).0);
        match job.demand {
            Demand::Elastic => self.by_app.get(job.app.0).map_or(&[][..], |known| &known.1).iter().map(of).collect(),
            Demand::Rigid { gpus, batch } => {
                let app = &view.apps[job.app.0];
                let shapes = rigid_shapes(view.gpu_types, gpus).into_iter();
                shapes.filter_map(|shape| ShapeOptions::rigid(app, model, shape, batch).map(|o| of(&o))).collect()
            }
        }
    }
}
