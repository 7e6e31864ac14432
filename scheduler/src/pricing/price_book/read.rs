//! Reading a price book: every row is checked column by column, and all faults are reported at once.

use std::collections::BTreeMap;
use std::fmt;

use jiff::civil::Date;
use serde::Deserialize;

use super::{Accelerators, Place, PriceCode, PriceRow};
use crate::model::{CpuMillis, MemoryMib, MicroUsd, MicroUsdPerHour, MoneyParseError, NodeSize};
use crate::sim::{DataError, Row, read_rows};

/// The most a node may cost, in dollars an hour. The dearest machine in today's public lists (eight of the newest
/// accelerators, or 24 TiB of memory) costs 100 to 300; what is above 10,000 is a figure in another unit.
pub const HOURLY_PRICE_USD_MAX: u64 = 10_000;

/// The most accelerators, processors and GiB of memory of one machine: ten times the largest on offer in 2025 (16
/// accelerators in `p2.16xlarge`; 1,920 processors and 32 TiB in `u7inh-32tb.480xlarge`).
const ACCELERATORS_MAX: u32 = 160;
const VCPU_MAX: u32 = 20_000;
const MEMORY_GIB_MAX: u32 = 327_680;

/// One fault of a price file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("error[{code}] {place}")]
pub struct PriceFault {
    /// What kind of fault.
    pub code: PriceCode,
    /// Where, and what stood there.
    pub place: DataError,
}

/// All faults of a price file, in the order of its lines. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PriceFaults(pub Vec<PriceFault>);

impl std::error::Error for PriceFaults {}

/// One fault a line.
impl fmt::Display for PriceFaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&lines.join("\n"))
    }
}

/// A row as it stands in the file. Every column is text, so that a fault can quote what stood there.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRow {
    provider: String,
    instance: String,
    accelerator: String,
    accelerator_count: String,
    vcpu: String,
    memory_gib: String,
    region: String,
    zone: String,
    on_demand_usd_per_hour: String,
    spot_usd_per_hour: String,
    source: String,
}

pub(super) fn book(file: &str, text: &str) -> Result<(Date, Vec<PriceRow>), PriceFaults> {
    let mut faults = Vec::new();
    let date = date(file, text).map_err(|fault| faults.push(fault)).ok();
    let rows = match read_rows::<RawRow>(file, text) {
        Ok(rows) => check(file, &rows, &mut faults),
        Err(place) => {
            faults.push(PriceFault { code: PriceCode::Table, place });
            Vec::new()
        }
    };
    date.filter(|_| faults.is_empty()).map(|date| (date, rows)).ok_or(PriceFaults(faults))
}

fn date(file: &str, text: &str) -> Result<Date, PriceFault> {
    let first = text.lines().next().unwrap_or_default();
    let day = first.strip_prefix('#').and_then(|line| line.trim().strip_prefix("date:")).unwrap_or_default().trim();
    day.parse().map_err(|_| PriceFault {
        code: PriceCode::Date,
        place: DataError {
            file: file.to_owned(),
            line: 1,
            column: None,
            value: Some(first.to_owned()),
            why: "the first line says the book's date, as in `# date: 2025-10-22`".to_owned(),
        },
    })
}

fn check(file: &str, rows: &[Row<RawRow>], faults: &mut Vec<PriceFault>) -> Vec<PriceRow> {
    let mut seen: BTreeMap<(Place, String), u64> = BTreeMap::new();
    let mut checked = Vec::new();
    for row in rows {
        let mut checker = Checker { file, row, faults };
        let Some(value) = checker.row() else { continue };
        if let Some(line) = seen.insert((value.place.clone(), value.instance.clone()), row.line) {
            let why = format!("the same instance at the same place as in line {line}");
            checker.fault(PriceCode::Duplicate, "instance", &value.instance, why);
        }
        checked.push(value);
    }
    checked
}

struct Checker<'a> {
    file: &'a str,
    row: &'a Row<RawRow>,
    faults: &'a mut Vec<PriceFault>,
}

impl Checker<'_> {
    /// The row, if nothing is wrong with it; else its faults are noted.
    fn row(&mut self) -> Option<PriceRow> {
        let before = self.faults.len();
        let raw = &self.row.value;
        let row = PriceRow {
            place: Place {
                provider: self.name("provider", &raw.provider),
                region: self.name("region", &raw.region),
                zone: (!raw.zone.is_empty()).then(|| self.name("zone", &raw.zone)),
            },
            instance: self.name("instance", &raw.instance),
            accelerators: self.accelerators(raw),
            size: NodeSize {
                cpus: CpuMillis::from_cores(self.size("vcpu", &raw.vcpu, VCPU_MAX)),
                memory: MemoryMib(1_024 * u64::from(self.size("memory_gib", &raw.memory_gib, MEMORY_GIB_MAX))),
            },
            on_demand: self.price("on_demand_usd_per_hour", &raw.on_demand_usd_per_hour),
            spot: self.price("spot_usd_per_hour", &raw.spot_usd_per_hour),
            source: raw.source.clone(),
        };
        if raw.source.is_empty() {
            self.fault(PriceCode::Name, "source", "", "a figure needs its source");
        }
        if raw.on_demand_usd_per_hour.is_empty() && raw.spot_usd_per_hour.is_empty() {
            self.fault(PriceCode::NoPrice, "on_demand_usd_per_hour", "", "a row has at least one price");
        }
        (self.faults.len() == before).then_some(row)
    }

    fn accelerators(&mut self, raw: &RawRow) -> Option<Accelerators> {
        if raw.accelerator.is_empty() && raw.accelerator_count.is_empty() {
            return None;
        }
        let model = self.name("accelerator", &raw.accelerator);
        Some(Accelerators { model, count: self.size("accelerator_count", &raw.accelerator_count, ACCELERATORS_MAX) })
    }

    fn name(&mut self, column: &str, text: &str) -> String {
        if text.is_empty() || text.contains(['/', '*']) || text.contains(char::is_whitespace) {
            self.fault(PriceCode::Name, column, text, PriceCode::Name.title());
        }
        text.to_owned()
    }

    fn size(&mut self, column: &str, text: &str, max: u32) -> u32 {
        let size = text.parse().ok().filter(|size| (1..=max).contains(size));
        if size.is_none() {
            self.fault(PriceCode::Size, column, text, format!("a whole number from 1 to {max}"));
        }
        size.unwrap_or_default()
    }

    fn price(&mut self, column: &str, text: &str) -> Option<MicroUsdPerHour> {
        if text.is_empty() {
            return None;
        }
        match price(text) {
            Ok(price) => Some(price),
            Err(code) => {
                self.fault(code, column, text, code.title());
                None
            }
        }
    }

    fn fault(&mut self, code: PriceCode, column: &str, value: &str, why: impl Into<String>) {
        self.faults.push(PriceFault { code, place: self.row.refuse(self.file, column, value, why) });
    }
}

fn price(text: &str) -> Result<MicroUsdPerHour, PriceCode> {
    let limit = MicroUsd::new(HOURLY_PRICE_USD_MAX * 1_000_000);
    match text.parse::<MicroUsd>() {
        Ok(price) if price == MicroUsd::ZERO || price > limit => Err(PriceCode::Absurd),
        Ok(price) => Ok(MicroUsdPerHour::new(price.get())),
        Err(MoneyParseError::TooLarge(_)) => Err(PriceCode::Absurd),
        Err(MoneyParseError::TooFine(_)) => Err(PriceCode::TooFine),
        Err(MoneyParseError::NotAnAmount(_)) => Err(no_amount(text)),
    }
}

/// Why a text is not an amount. Floats are only read here, to name the fault.
fn no_amount(text: &str) -> PriceCode {
    match text.parse::<f64>() {
        Ok(number) if !number.is_finite() => PriceCode::NotFinite,
        Ok(number) if number < 0.0 => PriceCode::Negative,
        _ => PriceCode::NotAPrice,
    }
}
