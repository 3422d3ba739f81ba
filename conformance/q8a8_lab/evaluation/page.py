"""The page of the evaluation, `docs/model/evaluation.md`: the same report gives the same page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from q8a8_evaluation.statistics import Estimate
from q8a8_lab.evaluation.verdicts import ERRORS, FACTS, agrees

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["COMMAND", "EXPLANATIONS", "render"]

COMMAND = "python -m q8a8_lab.evaluation.run --markdown docs/model/evaluation.md"

EXPLANATIONS: Mapping[str, str] = {
    "w8a16": "the windows, as far as we can tell: over 24 windows, these 12 among them, it was "
    "+0.12 ± 0.07 %, within two errors of the earlier figure.",
    "q8_a8+smooth-down": "it rounds weights as `w8a16` does, on the same windows; against `w8a16` the "
    "two measurements differ by 0.15 %, which is chance.",
    "w8a8-channel+smooth": "the earlier calibration (text, length) is not recorded; "
    "no other reason is known.",
    "llm-int8": "outlier columns take their weights from the int8 codes, as bitsandbytes does. With "
    "weights in float16 for them, as the paper describes, it was +1.63 ± 0.37 %, within two errors of "
    "the earlier figure.",
    "kv-int4": "the newest 32 to 63 positions stay in float here. With all positions quantized it was "
    "+1.11 ± 0.17 %; the earlier groups are not recorded.",
}
"""By scheme, why a measurement differs from the earlier one.

Figures are of runs with the protocol above, in a machine's arithmetic.
"""

_HEAD = f"""\
<!-- Made by `{COMMAND}`; not to be edited by hand. -->

# Evaluation: every scheme on a real model

`make evaluate` measures the perplexity of every scheme of this project on SmolLM2-135M-Instruct, a Llama
model of 30 layers, run in NumPy, and writes this page. [Perplexity](perplexity.md) says how it is measured
and where the errors are from. A smaller perplexity is better; the change is against the same model in
float32, and its error is paired: both read the same tokens.
"""

_NOT_SHOWN = """\
## What the table does not show

- **The float model is no float model.** The file's weights are 4-bit (Q4_1, in blocks of 32 with a scale
  and a minimum), only the embedding is 8-bit. They lie on a coarse grid already. A scheme with the same
  blocks of 32 and 16 steps meets that grid again, one with other groups does not: the rows of **4 and 3
  bits are confounded** with it, and say little about how the schemes do on weights that were never
  quantized. GPTQ as published comes out behind rounding to nearest here at both widths, with act-order and
  static groups ahead of it, and AWQ behind at 4 bits and ahead at 3, although the layers' errors of both
  are smaller: how much of that is the grid's doing this model cannot tell. At 8 bits the grid is fine
  enough not to matter much, but an 8-bit row here is no better than the same on a model in 16 bits.
- **One small model.** 135 million weights. Larger models lose less to the same scheme, as the published
  figures of all these methods say, and have larger outliers.
- **One text, one language.** Perplexity on encyclopedia articles is not the quality of answers to
  questions, and the model is tuned for conversations.
- **Calibration on news.** Schemes that calibrate have seen other text than they are measured on. That is as
  it should be; how much they would gain from more or nearer text is not shown.
- **Many rows, one sample.** All rows share the same windows, so their errors are not independent of each
  other; of {rows} rows one or two are outside two standard errors by chance.
- **No speed.** Everything runs in NumPy here. `q8a8 bench-model` measures that.
- **Order of layers.** GPTQ and AWQ are calibrated on the inputs of the float model, all layers at once; the
  authors go layer by layer, each on what the quantized layers before it put out. Groups are of 64 here,
  where the authors take 128, which does not divide this model's 576 channels.
"""


_OTHERS = """\
## Two models, two languages

On few windows: in an order of our own a window takes about five times as long. The error of two windows has
one degree of freedom, and is itself off by a factor of two or more; the tables show what differs by far.
`own` is an order of our own, the same on every machine. Reports are kept in the folder `docs/model/measured`,
made by

```console
$ python -m q8a8_lab.evaluation.run --model smollm2 --text korean --window 256 --windows 2 --schemes ...
$ python -m q8a8_lab.evaluation.run --model gemma3 --window 256 --windows 2 --schemes ...
```

each with `--json FILE`; `--render` makes this page of them.

- The Korean text is the constitution of the Republic of Korea, which no one owns. SmolLM2 reads it in bytes
  and pieces of characters: its perplexity is of those, and lower for that reason.
- One scale for a whole weight in 4 bits destroys SmolLM2; one for each output channel is behind groups.
- A window of Gemma takes 2.0 s of processor time in the machine's arithmetic and 7.4 s in our own.
- Both files are 4-bit already (SmolLM2 Q4_1; Gemma 3 270M Q4_K_M and Q5_0). No package that was found has a
  language model of these families in 16-bit weights, which would tell the 4-bit rows' loss from the grid's.

"""


_MACHINE = """\
## The same rows in a machine's arithmetic

Some rows again, with the float parts as NumPy and one machine's BLAS compute them: same windows and
calibration, with a `float` of its own. The last column has the change of the first table, whose arithmetic is
the same on every machine. Made by

```console
$ python -m q8a8_lab.evaluation.run --arithmetic machine --json FILE --schemes ...
```

Arithmetic: {arithmetic}.

- Rounding of float parts alone moves `q8_a8` by {moved_q8_a8} % of perplexity, `w8a8-channel` by
  {moved_channel} % and `w8a8-static-absmax` by {moved_absmax} %: as codes near a tie fall on the other side,
  and what follows from them. These moves are within two standard errors of the change itself; one arithmetic
  alone shows no smaller effect ([why](perplexity.md#the-arithmetic)).
- A zero point (`asym`: both ends of the range by the same method) helps where the whole range is kept. A
  percentile is one of each side, so that both together clip up to twice as many elements as one of the
  magnitudes does; what is clipped here has most of a tensor's energy
  ([observers](../methods/observers.md)).

"""


def render(
    found: Mapping[str, Any],
    images: Mapping[str, str],
    others: Mapping[str, Mapping[str, Any]] | None = None,
    machine: Mapping[str, Any] | None = None,
) -> str:
    """Return the page, as Markdown.

    Parameters
    ----------
    found
        The report of `q8a8_lab.evaluation.run`: that of `q8a8 perplexity`, with `gate`.
    images
        Paths of the plots from the page: "changes" and "bits".
    others
        Reports of other models and texts, by a short name; none is said nothing about.
    machine
        The report of some schemes in a machine's arithmetic.
    """
    parts = [
        _HEAD,
        _protocol(found),
        _gate(found["gate"]),
        _schemes(found),
        _divergence(found),
        _plots(images),
    ]
    parts += [
        _machine(machine, found) if machine else "",
        _others(others or {}),
        _facts(found["schemes"]),
        _NOT_SHOWN.format(rows=len(found["schemes"]) - 1),
        _sources(found),
    ]
    return "\n".join(part for part in parts if part)


def _table(head: Sequence[str], align: str, lines: Iterable[Sequence[object]]) -> str:
    """Write a table; `align` has an l or r for each column."""
    rule = ["---:" if side == "r" else "---" for side in align]
    text = [f"| {' | '.join(head)} |", f"| {' | '.join(rule)} |"]
    text += [f"| {' | '.join(str(cell) for cell in line)} |" for line in lines]
    return "\n".join(text) + "\n"


def _protocol(found: Mapping[str, Any]) -> str:
    protocol, calibration = found["protocol"], found["calibration"]
    where = "spread evenly over the text" if protocol["spread"] else "its first ones"
    begin = "with" if protocol["bos"] else "without"
    calibrated = (
        f" Calibration: {calibration['windows']} windows of {calibration['window']} tokens of "
        f"`{calibration['file']}`, news."
        if calibration
        else ""
    )
    return (
        f"{protocol['windows']} windows of {protocol['window']} tokens that do not overlap, {where}, {begin} "
        f"a token for the beginning; {protocol['count']} predictions of each window count, "
        f"{sum(protocol['counted']):,} together; the head is computed in {protocol['head']}. Text: the "
        f"articles of a Wikipedia dump, in their order.{calibrated}\n"
    )


def _gate(checks: Sequence[Mapping[str, Any]]) -> str:
    lines = [
        (
            check["asks"],
            f"{check['value']:+.2f} %",
            f"{check['low']:+.2f} to {check['high']:+.2f} %",
            "holds" if check["passed"] else "**broken**",
        )
        for check in checks
    ]
    return (
        f"## Gate\n\n`make evaluate` fails where one of these is broken, judged with {ERRORS:g} paired "
        "standard errors: the first where the bar's upper end is above the limit, the others where the bar "
        "of the change against `q8_a8` lies above zero.\n\n"
        + _table(("asked", "change", "error bar", "verdict"), "lrrl", lines)
    )


def _schemes(found: Mapping[str, Any]) -> str:
    lines = []
    for each in found["schemes"]:
        first = each is found["schemes"][0]
        error = each["delta_error_percent"]
        change = (
            "" if first else f"{each['delta_percent']:+.2f}" + ("" if error is None else f" ± {error:.2f}")
        )
        cache = f"{each['cache_bytes'] / 2**20:.1f}"
        lines.append(
            (
                f"`{each['scheme']}`",
                f"{each['perplexity']:.3f}",
                change,
                f"{each['weight_bits']:.3f}",
                f"{each['activation_bits']:.4g}",
                f"{each['weight_bytes'] / 2**20:.1f}",
                cache,
            )
        )
    head = (
        "scheme",
        "perplexity",
        "change, %",
        "bits a weight",
        "bits an activation",
        "weights, MiB",
        "cache, MiB",
    )
    return (
        "## Schemes\n\nBits and bytes are those that are stored, scales included, of the linear operators of "
        "all layers; the head is not among them. The cache is that of one window. ± is one paired standard "
        "error.\n\n" + _table(head, "lrrrrrr", lines)
    )


def _divergence(found: Mapping[str, Any]) -> str:
    """Return the table of divergences from float, where they were measured, and what computed the rows."""
    lines = []
    for each in found["schemes"]:
        apart = each.get("divergence")
        if apart is not None:
            kl, top, change = (
                f"{apart[key]:.{digits}f}" + ("" if apart[error] is None else f" ± {apart[error]:.{digits}f}")
                for key, error, digits in (
                    ("kl", "kl_error", 5),
                    ("same_top_percent", "same_top_error_percent", 2),
                    ("probability_change_percent", "probability_change_error_percent", 3),
                )
            )
            lines.append((f"`{each['scheme']}`", kl, top, change, f"{apart['largest_drop_percent']:.1f}"))
    if not lines:
        return ""
    machines = sorted({each["arithmetic"] for each in found["schemes"]} - {"own"})
    rest = [f"`{each['scheme']}`" for each in found["schemes"] if each["arithmetic"] != "own"]
    own = len(rest) < len(found["schemes"])
    where = "Float parts are computed in an order of our own, the same on every machine" if own else ""
    if rest:
        where += (
            f"{', but for ' if own else 'Computed by a machine: '}{', '.join(rest)}: {'; '.join(machines)}"
        )
    head = (
        "scheme",
        "KL to float, nats",
        "same most probable token, %",
        "mean change of p, %",
        "largest drop, %",
    )
    return (
        "## Divergence from float\n\nPrediction by prediction, as [Perplexity](perplexity.md) defines it. ± "
        f"is one standard error over windows. {where}.\n\n" + _table(head, "lrrrr", lines)
    )


def _others(reports: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the tables of other models and texts: a column for each report."""
    if not reports:
        return ""
    names = list(dict.fromkeys(each["scheme"] for found in reports.values() for each in found["schemes"]))
    rows = {
        name: [
            next((each for each in found["schemes"] if each["scheme"] == name), None)
            for found in reports.values()
        ]
        for name in names
    }
    base, *schemes = names
    facts = [
        (
            name,
            f"`{found['text']['file']}`",
            f"{found['protocol']['windows']} of {found['protocol']['window']}",
            sum(found["protocol"]["counted"]),
            f"{found['schemes'][0]['perplexity']:.3f}",
            "; ".join(sorted({each["arithmetic"] for each in found["schemes"]})),
        )
        for name, found in reports.items()
    ]
    head = ("scheme", *reports)
    align = "l" + "r" * len(reports)
    changes = [(f"`{name}`", *map(_change, rows[name])) for name in schemes]
    tops = [(f"`{name}`", *map(_top, rows[name])) for name in schemes]
    return (
        _OTHERS
        + _table(
            ("", "text", "windows, tokens", "predictions", f"perplexity of `{base}`", "arithmetic"),
            "llrrrl",
            facts,
        )
        + "\nChange of perplexity, %:\n\n"
        + _table(head, align, changes)
        + "\nThe most probable token is float's, %:\n\n"
        + _table(head, align, tops)
    )


def _machine(found: Mapping[str, Any], first: Mapping[str, Any]) -> str:
    """Return the table of rows in a machine's arithmetic, beside the changes of the first table."""
    before = {each["scheme"]: each for each in first["schemes"]}
    lines = [
        (
            f"`{each['scheme']}`",
            f"{each['perplexity']:.3f}",
            _change(each),
            _top(each),
            _change(before.get(each["scheme"])),
        )
        for each in found["schemes"]
    ]
    lines[0] = (*lines[0][:2], "", "", "")
    moved = {
        each["scheme"]: f"{abs(each['delta_percent'] - before[each['scheme']]['delta_percent']):.2f}"
        for each in found["schemes"]
        if each["scheme"] in before
    }
    head = (
        "scheme",
        "perplexity",
        "change, %",
        "the most probable token is float's, %",
        "first table's change, %",
    )
    text = _MACHINE.format(
        arithmetic="; ".join(sorted({each["arithmetic"] for each in found["schemes"]})),
        moved_q8_a8=moved.get("q8_a8", "?"),
        moved_channel=moved.get("w8a8-channel", "?"),
        moved_absmax=moved.get("w8a8-static-absmax", "?"),
    )
    return text + _table(head, "lrrrr", lines)


def _change(each: Mapping[str, Any] | None) -> str:
    """Return a scheme's change of perplexity with its error."""
    if each is None:
        return ""
    if each["delta_percent"] > 1e4:
        return "more than 10,000"
    error = each["delta_error_percent"]
    return f"{each['delta_percent']:+.2f}" + ("" if error is None else f" ± {error:.2f}")


def _top(each: Mapping[str, Any] | None) -> str:
    """Return the share of equal most probable tokens with its error."""
    if each is None or each["divergence"] is None:
        return ""
    error = each["divergence"]["same_top_error_percent"]
    return f"{each['divergence']['same_top_percent']:.2f}" + ("" if error is None else f" ± {error:.2f}")


def _plots(images: Mapping[str, str]) -> str:
    return (
        f"![Change of perplexity of each scheme, with error bars]({images['changes']})\n\n"
        f"![Perplexity against bits a weight]({images['bits']})\n"
    )


def _facts(schemes: Sequence[Mapping[str, Any]]) -> str:
    lines, reasons = [], []
    for each in schemes:
        fact = FACTS.get(each["scheme"])
        if fact is None:
            continue
        good = agrees(fact, Estimate(each["delta_percent"], each["delta_error_percent"]))
        before = f"{fact.percent:+g}" + ("" if fact.error is None else f" ± {fact.error:.2f}")
        error = each["delta_error_percent"]
        now = f"{each['delta_percent']:+.2f}" + ("" if error is None else f" ± {error:.2f}")
        lines.append((f"`{each['scheme']}`", before, now, "reproduced" if good else "differs"))
        if not good and each["scheme"] in EXPLANATIONS:
            reasons.append(f"- `{each['scheme']}`: {EXPLANATIONS[each['scheme']]}")
    if not lines:
        return ""
    return (
        "## Against the earlier measurement\n\n"
        "Before this code was written the same model had been measured on 12 windows of 512 tokens of the "
        "same dump (float perplexity 19.94), with another reading of its markup; which windows those were is "
        "not recorded. Perplexity itself depends on the windows: from one to another it varies here between "
        f"{_extremes(schemes[0])}. Changes depend on them much less. *Reproduced* means apart by no more "
        f"than {ERRORS:g} standard errors of the difference of two independent samples.\n\n"
        + _table(("scheme", "earlier, %", "here, %", "verdict"), "lrrl", lines)
        + ("\n" + "\n".join(reasons) + "\n" if reasons else "")
    )


def _extremes(base: Mapping[str, Any]) -> str:
    return f"{base['window_perplexity'][0]:.1f} and {base['window_perplexity'][1]:.1f}"


def _sources(found: Mapping[str, Any]) -> str:
    lines = [(f"`{each['scheme']}`", each["summary"], each["source"]) for each in found["schemes"]]
    files = [("model", found["model"]), ("text", found["text"]), ("calibration", found["calibration"])]
    return (
        "## What each scheme is\n\n"
        + _table(("scheme", "what", "source"), "lll", lines)
        + "\n## Files\n\n"
        + _table(
            ("", "file", "SHA-256"),
            "lll",
            [(what, f"`{file['file']}`", f"`{file['sha256']}`") for what, file in files if file],
        )
    )
