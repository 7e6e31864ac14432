//! The codes of faults in price files, E200 to E210, in one table. A number is never used again for something else.

use crate::codes::codes;

codes! {
    /// What kind of fault it is. The number is stable; the message beside it may change.
    enum PriceCode;

    Table = "E200", "not a price table: a column is missing or a row has too few or too many",
        "A price file is a comma-separated table whose second line names the columns: provider, instance, accelerator, accelerator_count, vcpu, memory_gib, region, zone, on_demand_usd_per_hour, spot_usd_per_hour, source. Every row has all of them; what is not known is empty.";
    NotAPrice = "E201", "not a price: prices are plain dollars such as 1.2647, or empty",
        "Write dollars per hour as a decimal number, without a currency, a separator of thousands or an exponent. Where a machine is not offered on a market, leave its price empty.";
    Negative = "E202", "a negative price",
        "Nobody is paid for renting a node. Look up the price at the source that the row names, or leave it empty.";
    NotFinite = "E203", "a price that is NaN or infinite",
        "Tools that write tables put NaN where a value is missing. Leave the price empty instead.";
    Absurd = "E204", "an absurd price: zero, or above the limit of 10,000 dollars an hour",
        "The dearest machines of public price lists cost a few hundred dollars an hour. A larger figure is in another unit (cents, a month), and a free node has no row.";
    TooFine = "E205", "a price with more than six decimals: the smallest unit is a millionth of a dollar",
        "Money is counted in whole micro-dollars. Round the price up to six decimals.";
    Size = "E206", "not a number of accelerators, processors or GiB that a machine can have",
        "Counts and sizes are whole numbers from 1 up to ten times the largest machine on offer. A machine without accelerators leaves both accelerator columns empty.";
    Name = "E207", "a name is missing or has a space, a `/` or a `*` in it",
        "Names of providers, regions, zones, instances and accelerators are joined with `/` and matched with `*`, so they can hold neither, nor spaces. Every row also names its source.";
    NoPrice = "E208", "neither an on-demand nor a spot price",
        "A row without a price offers nothing. Give at least one of the two prices, or remove the row.";
    Duplicate = "E209", "the same instance at the same place a second time",
        "Which of two prices counts would be a guess. Keep one row for each instance and zone.";
    Date = "E210", "the first line does not say `# date: YYYY-MM-DD`",
        "Prices change, so every book says of which day it is, in its first line, as in `# date: 2025-10-22`.";
}
