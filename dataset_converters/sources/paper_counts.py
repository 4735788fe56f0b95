"""Table 1 of the HSTU-BLaIR paper beside what a conversion made."""

from __future__ import annotations

TABLE_1 = {
    "video_games": {"users": 94_762, "items": 25_612, "interactions": 814_585},
    "office_products": {"users": 223_308, "items": 77_551, "interactions": 1_800_877},
    "musical_instruments": {"users": 57_439, "items": 24_587, "interactions": 511_835},
    "steam": {"users": 139_259, "items": 11_808, "interactions": 1_538_285},
}


def compare(stats: dict) -> str | None:
    """A sentence that sets the paper's row beside ours; None where the paper has no such row."""
    key = str(stats["settings"].get("category", stats["source"])).lower()
    if key not in TABLE_1:
        return None
    paper = TABLE_1[key]
    ours = {name: stats[name] for name in paper}
    verdict = "they agree" if ours == paper else f"they differ: {_why(stats, ours, paper)}"
    return f"the paper's Table 1: {_row(paper)}; here: {_row(ours)}; {verdict}"


def _why(stats: dict, ours: dict, paper: dict) -> str:
    settings = stats["settings"]
    if settings["limit"] is not None:
        return f"only the first {settings['limit']:,} interactions were read (--limit)"
    if settings.get("variant") == "full":
        return (
            "the paper's code dropped every review whose line held a quote, an apostrophe, an "
            "escape or None, and filtered no items; here none is lost "
            "(--steam_variant=published repeats it)"
        )
    if ours | {"interactions": ours["interactions"] - 1} == paper:
        return "the research code read the first data row as part of the header and lost it"
    if stats["dropped"]:
        return "interactions were dropped here (" + ", ".join(stats["dropped"]) + ")"
    return "the source files are not those of the paper"


def _row(counts: dict) -> str:
    return ", ".join(f"{value:,} {name}" for name, value in counts.items())
