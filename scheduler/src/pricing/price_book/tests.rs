use super::*;
use crate::model::{CpuMillis, MemoryMib};

const HEADER: &str = "# date: 2025-10-22\nprovider,instance,accelerator,accelerator_count,vcpu,memory_gib,region,zone,\
                      on_demand_usd_per_hour,spot_usd_per_hour,source\n";

/// The book that is shipped.
const CATALOG: &str = include_str!("../../../../ops/prices/2025-catalog.csv");

fn codes(rows: &str) -> Vec<String> {
    let faults = PriceBook::read("p.csv", &format!("{HEADER}{rows}")).unwrap_err();
    faults.0.iter().map(|fault| fault.code.to_string()).collect()
}

fn query(model: &str, count: u32, market: Market) -> PriceQuery {
    PriceQuery {
        accelerators: Some(Accelerators { model: model.to_owned(), count }),
        size: NodeSize { cpus: CpuMillis::from_cores(1), memory: MemoryMib(1_024) },
        market,
        places: Vec::new(),
        max_price: None,
    }
}

fn usd(text: &str) -> MicroUsdPerHour {
    MicroUsdPerHour::new(text.parse::<crate::model::MicroUsd>().unwrap().get())
}

#[test]
fn the_shipped_price_book_is_read_whole() {
    let book = PriceBook::read("2025-catalog.csv", CATALOG).unwrap();
    assert_eq!((book.date().to_string().as_str(), book.rows().len()), ("2025-10-22", 160));
    assert!(book.rows().iter().all(|row| row.source.contains('@')), "every source is pinned");
}

#[test]
fn each_fault_of_a_price_file_has_its_code() {
    let price = |text: &str| codes(&format!("aws,p3,V100,1,8,61,us,us-a,{text},,src@1\n"));
    for (text, code) in [
        ("-3", "E202"),
        ("NaN", "E203"),
        ("inf", "E203"),
        ("-inf", "E203"),
        ("0", "E204"),
        ("10000.01", "E204"),
        ("99999999999999999999", "E204"),
        ("0.0000001", "E205"),
        ("three", "E201"),
        ("1e3", "E201"),
        ("", "E208"),
    ] {
        assert_eq!(price(text), [code], "{text}");
    }
    for (row, code) in [
        ("aws,p3,V100,0,8,61,us,us-a,1,,s", "E206"),
        ("aws,p3,V100,1,-8,61,us,us-a,1,,s", "E206"),
        ("aws,p3,,1,8,61,us,us-a,1,,s", "E207"),
        ("aws,p3,V100,1,8,61,us/a,us-a,1,,s", "E207"),
        ("aws,p3,V100,1,8,61,us,us-a,1,,", "E207"),
        ("aws,p3,V100,1,8,61,us,us-a,1", "E200"),
    ] {
        assert_eq!(codes(&format!("{row}\n")), [code], "{row}");
    }
}

#[test]
fn all_faults_are_reported_each_with_its_place() {
    let rows = "aws,p3,V100,1,8,61,us,a,-3,nan,s\naws,p3,V100,1,8,61,us,b,1,,s\naws,p3,V100,1,8,61,us,b,2,,s\n";
    let faults = PriceBook::read("p.csv", &format!("{HEADER}{rows}")).unwrap_err();
    let expected = "error[E202] p.csv:3: column on_demand_usd_per_hour: \"-3\": a negative price\n\
         error[E203] p.csv:3: column spot_usd_per_hour: \"nan\": a price that is NaN or infinite\n\
         error[E209] p.csv:5: column instance: \"p3\": the same instance at the same place as in line 4";
    assert_eq!(faults.to_string(), expected);
}

#[test]
fn a_book_without_its_date_is_refused() {
    for first in ["", "# date: 2025-13-01", "# 2025-10-22"] {
        let text = format!("{first}\n{}", HEADER.lines().nth(1).unwrap());
        let faults = PriceBook::read("p.csv", &text).unwrap_err();
        assert_eq!(faults.0[0].code, PriceCode::Date, "{first}");
    }
}

#[test]
fn the_cheapest_offer_comes_first() {
    let book = PriceBook::read("2025-catalog.csv", CATALOG).unwrap();
    let spot = book.offers(&query("h100", 8, Market::Spot)).unwrap();
    assert!(spot.windows(2).all(|pair| pair[0].quote.price <= pair[1].quote.price));
    assert_eq!(
        spot[0].quote.price,
        book.rows()
            .iter()
            .filter(|row| has(row, &query("H100", 8, Market::Spot).accelerators.unwrap()))
            .filter_map(|row| row.spot)
            .min()
            .unwrap()
    );
    let mut in_europe = query("H100", 8, Market::OnDemand);
    in_europe.places = vec!["gcp/europe-*".parse().unwrap()];
    let in_europe = book.offers(&in_europe).unwrap();
    assert_eq!(in_europe[0].quote.price, usd("90.86874"));
    assert!(in_europe.iter().all(|offer| offer.row.place.to_string().starts_with("gcp/europe-")));
}

#[test]
fn nothing_above_the_price_limit_or_below_the_size_is_offered() {
    let book = PriceBook::read("2025-catalog.csv", CATALOG).unwrap();
    let mut narrow = query("V100", 4, Market::OnDemand);
    narrow.max_price = Some(usd("12.24"));
    narrow.size.memory = MemoryMib(244 * 1_024);
    let offers = book.offers(&narrow).unwrap();
    assert!(!offers.is_empty() && offers.iter().all(|offer| offer.quote.price <= usd("12.24")));
    narrow.size.memory = MemoryMib(10_000 * 1_024);
    assert!(book.offers(&narrow).unwrap().is_empty());
}

#[test]
fn an_unknown_gpu_is_named_with_its_nearest() {
    let book = PriceBook::read("2025-catalog.csv", CATALOG).unwrap();
    let error = book.offers(&query("H1000", 1, Market::Spot)).unwrap_err();
    assert_eq!(error.to_string(), "unknown gpu \"H1000\", did you mean H100?");
    assert_eq!(book.offers(&query("zzz", 1, Market::Spot)).unwrap_err().nearest, None);
}

#[test]
fn a_spot_quote_says_how_high_it_may_become() {
    let ceiling = |on_demand: &str, max_price: Option<&str>| {
        let book = format!("{HEADER}aws,p3,V100,1,8,61,us,a,{on_demand},1,s@1\n");
        let book = PriceBook::read("p.csv", &book).unwrap();
        let mut query = query("V100", 1, Market::Spot);
        query.max_price = max_price.map(usd);
        book.offers(&query).unwrap()[0].quote.ceiling
    };
    assert_eq!(ceiling("3", None), usd("3"));
    assert_eq!(ceiling("3", Some("2")), usd("2"));
    assert_eq!(ceiling("", Some("2")), usd("2"));
    assert_eq!(ceiling("", None), usd("16"));
    assert_eq!(ceiling("0.5", None), usd("1"), "a spot price above the on-demand price is its own bound");
}
