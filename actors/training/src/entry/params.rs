//! The settings of an entry: its own hyper-parameters, and those of the optimiser that every entry has.

use std::collections::BTreeMap;

use neap_scheduler::spec::{EntryInfo, ParamInfo, ParamKind, ParamValue};

use super::{EntryError, schema};
use crate::model::Hyper;
use crate::optimiser::{AdamSettings, OptimiserSettings, SgdSettings};
use crate::update::{Decay, RateSchedule, UpdateSettings};

/// More steps than this are a typing error.
const STEPS_MAX: i64 = 1_000_000_000_000;

/// The settings of the optimiser, as every entry has them.
pub(super) fn update_params() -> Vec<ParamInfo> {
    let float = |name: &str, min, max, default| ParamInfo {
        name: name.to_owned(),
        kind: ParamKind::Float { min, max },
        default: Some(ParamValue::Float(default)),
    };
    let choice = |name: &str, choices: &[&str], default: &str| ParamInfo {
        name: name.to_owned(),
        kind: ParamKind::Text { choices: choices.iter().map(|&choice| choice.to_owned()).collect() },
        default: Some(ParamValue::Text(default.to_owned())),
    };
    let steps = |name: &str, min, default| ParamInfo {
        name: name.to_owned(),
        kind: ParamKind::Int { min, max: STEPS_MAX },
        default: Some(ParamValue::Int(default)),
    };
    vec![
        choice("optimizer", &["adam", "adamw", "sgd"], "sgd"),
        float("lr", 0.0, 1_000.0, 0.1),
        float("momentum", 0.0, 0.999_999, 0.9),
        float("weight_decay", 0.0, 1_000.0, 0.0),
        float("beta1", 0.0, 0.999_999, 0.9),
        float("beta2", 0.0, 0.999_999, 0.999),
        float("epsilon", 1.0e-12, 1.0, 1.0e-8),
        // 0: gradients are not clipped.
        float("clip_norm", 0.0, 1.0e9, 0.0),
        choice("lr_schedule", &["constant", "cosine", "linear", "step"], "constant"),
        steps("lr_warmup_steps", 0, 0),
        float("lr_end", 0.0, 1.0, 0.0),
        steps("lr_step_size", 1, 1_000),
        float("lr_gamma", 0.0, 1.0, 0.1),
    ]
}

/// The settings of an entry; what a job does not say has its default.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Params(BTreeMap<String, ParamValue>);

impl Params {
    /// The settings of an entry, checked against what it takes.
    ///
    /// # Errors
    ///
    /// [`EntryError`] for an unknown setting, and for a value that the setting does not take.
    pub fn for_entry(info: &EntryInfo, given: &BTreeMap<String, ParamValue>) -> Result<Self, EntryError> {
        let mut values = BTreeMap::new();
        for param in &info.params {
            if let Some(value) = given.get(&param.name).or(param.default.as_ref()) {
                values.insert(param.name.clone(), checked(param, value)?);
            }
        }
        match given.keys().find(|name| !values.contains_key(*name)) {
            Some(name) => {
                Err(EntryError::Param { name: name.clone(), fault: format!("is not a setting of `{}`", info.name) })
            }
            None => Ok(Self(values)),
        }
    }

    /// The entry's own ones, as the struct it takes them in.
    ///
    /// # Errors
    ///
    /// [`EntryError::Param`] where the struct refuses what its schema allows.
    pub fn own<P: Hyper>(&self) -> Result<P, EntryError> {
        let known = schema::param_names::<P>();
        let given = self.0.iter().filter(|(name, _)| known.contains(*name));
        let given = given.map(|(name, value)| (name.clone(), json(value))).collect();
        serde_json::from_value(serde_json::Value::Object(given))
            .map_err(|error| EntryError::Param { name: "*".to_owned(), fault: format!("cannot be used: {error}") })
    }

    /// All settings by name.
    pub fn values(&self) -> &BTreeMap<String, ParamValue> {
        &self.0
    }

    /// A whole number that counts something.
    ///
    /// # Errors
    ///
    /// [`EntryError::Param`] where the setting is missing or no positive whole number.
    pub fn count(&self, name: &str) -> Result<usize, EntryError> {
        match self.0.get(name) {
            Some(&ParamValue::Int(value)) if value > 0 => Ok(value as usize),
            _ => Err(EntryError::Param { name: name.to_owned(), fault: "must be a positive whole number".to_owned() }),
        }
    }

    /// A number.
    ///
    /// # Errors
    ///
    /// [`EntryError::Param`] where the setting is missing or no number.
    pub fn float(&self, name: &str) -> Result<f64, EntryError> {
        match self.0.get(name) {
            Some(&ParamValue::Float(value)) => Ok(value),
            Some(&ParamValue::Int(value)) => Ok(value as f64),
            _ => Err(EntryError::Param { name: name.to_owned(), fault: "must be a number".to_owned() }),
        }
    }

    /// What they say about steps: the optimiser, the schedule of its rate, clipping.
    ///
    /// # Errors
    ///
    /// [`EntryError::Param`] where a setting is missing.
    pub fn update(&self) -> Result<UpdateSettings, EntryError> {
        let end = self.float("lr_end")?;
        let word = |name| match self.0.get(name) {
            Some(ParamValue::Text(word)) => word.as_str(),
            _ => "",
        };
        let decay = match word("lr_schedule") {
            "linear" => Decay::Linear { end },
            "cosine" => Decay::Cosine { end },
            "step" => Decay::Steps { every: self.count("lr_step_size")? as u64, by: self.float("lr_gamma")? },
            _ => Decay::None,
        };
        let warmup = match self.0.get("lr_warmup_steps") {
            Some(&ParamValue::Int(steps)) => steps.unsigned_abs(),
            _ => 0,
        };
        let clip = self.float("clip_norm")? as f32;
        Ok(UpdateSettings {
            optimiser: self.optimiser()?,
            rate: RateSchedule { warmup, decay },
            clip_norm: (clip > 0.0).then_some(clip),
        })
    }

    /// The optimiser they describe.
    ///
    /// # Errors
    ///
    /// [`EntryError::Param`] where a setting of the optimiser is missing.
    pub fn optimiser(&self) -> Result<OptimiserSettings, EntryError> {
        let float = |name| self.float(name).map(|value| value as f32);
        let (lr, weight_decay) = (float("lr")?, float("weight_decay")?);
        match self.0.get("optimizer") {
            Some(ParamValue::Text(name)) if name == "adam" || name == "adamw" => {
                let (beta1, beta2, epsilon) = (float("beta1")?, float("beta2")?, float("epsilon")?);
                let adam = AdamSettings { lr, weight_decay, beta1, beta2, epsilon };
                Ok(if name == "adam" { OptimiserSettings::Adam(adam) } else { OptimiserSettings::AdamW(adam) })
            }
            _ => Ok(OptimiserSettings::Sgd(SgdSettings { lr, weight_decay, momentum: float("momentum")? })),
        }
    }
}

/// A setting as JSON.
pub(crate) fn json(value: &ParamValue) -> serde_json::Value {
    match value {
        ParamValue::Int(value) => (*value).into(),
        ParamValue::Float(value) => (*value).into(),
        ParamValue::Text(value) => value.clone().into(),
        ParamValue::Bool(value) => (*value).into(),
    }
}

fn checked(param: &ParamInfo, value: &ParamValue) -> Result<ParamValue, EntryError> {
    let fault = |fault: String| Err(EntryError::Param { name: param.name.clone(), fault });
    match (&param.kind, value) {
        (&ParamKind::Int { min, max }, &ParamValue::Int(number)) => match (min..=max).contains(&number) {
            true => Ok(value.clone()),
            false => fault(format!("must be from {min} to {max}, not {number}")),
        },
        (&ParamKind::Float { min, max }, &(ParamValue::Float(_) | ParamValue::Int(_))) => {
            let number = match *value {
                ParamValue::Int(number) => number as f64,
                ParamValue::Float(number) => number,
                _ => f64::NAN,
            };
            match (min..=max).contains(&number) {
                true => Ok(ParamValue::Float(number)),
                false => fault(format!("must be from {min} to {max}, not {number}")),
            }
        }
        (ParamKind::Text { choices }, ParamValue::Text(word)) => match choices.is_empty() || choices.contains(word) {
            true => Ok(value.clone()),
            false => fault(format!("must be one of {}, not `{word}`", choices.join(", "))),
        },
        (ParamKind::Bool, ParamValue::Bool(_)) => Ok(value.clone()),
        (ParamKind::Int { .. }, _) => fault("must be a whole number".to_owned()),
        (ParamKind::Float { .. }, _) => fault("must be a number".to_owned()),
        (ParamKind::Text { .. }, _) => fault("must be a word".to_owned()),
        (ParamKind::Bool, _) => fault("must be true or false".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::Entries;
    use crate::model::MlpParams;

    fn params(entry: &str, given: &[(&str, ParamValue)]) -> Result<Params, EntryError> {
        let given = given.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        Entries::builtin().params(entry, &given)
    }

    #[test]
    fn defaults_fill_what_is_not_said() {
        let params = params("mlp", &[("lr", ParamValue::Int(1))]).unwrap();
        assert_eq!(params.own::<MlpParams>().unwrap().hidden1, 256);
        let expected = SgdSettings { lr: 1.0, momentum: 0.9, weight_decay: 0.0 };
        assert_eq!(params.update().unwrap(), UpdateSettings::plain(OptimiserSettings::Sgd(expected)));
    }

    #[test]
    fn a_schedule_and_clipping_are_read() {
        let word = |word: &str| ParamValue::Text(word.to_owned());
        let given = [
            ("optimizer", word("adamw")),
            ("lr_schedule", word("cosine")),
            ("lr_warmup_steps", ParamValue::Int(10)),
            ("lr_end", ParamValue::Float(0.1)),
            ("clip_norm", ParamValue::Int(1)),
        ];
        let update = params("mlp", &given).unwrap().update().unwrap();
        assert_eq!(update.rate, RateSchedule { warmup: 10, decay: Decay::Cosine { end: 0.1 } });
        assert_eq!(update.clip_norm, Some(1.0));
        assert!(matches!(update.optimiser, OptimiserSettings::AdamW(_)));
    }

    #[test]
    fn faults_say_what_is_wrong() {
        let fault = |name, value| params("cnn", &[(name, value)]).unwrap_err().to_string();
        assert_eq!(fault("lr", ParamValue::Float(-1.0)), "`train.params.lr` must be from 0 to 1000, not -1");
        assert_eq!(fault("hidden1", ParamValue::Int(3)), "`train.params.hidden1` is not a setting of `cnn`");
        assert!(fault("optimizer", ParamValue::Text("lamb".into())).contains("one of adam, adamw, sgd, not `lamb`"));
        assert!(params("rnn", &[]).unwrap_err().to_string().contains("there are: cnn, linear, logistic, mlp"));
    }
}
