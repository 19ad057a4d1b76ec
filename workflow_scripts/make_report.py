"""Write the HTML report of a run, one page with tables, figures and what they show, and how it was made (JSON)."""

from pathlib import Path

from rkd.report.page.build import page, sources
from rkd.report.provenance import origin, with_outputs
from rkd.utils.command_line import ArgumentParser
from rkd.utils.files import atomic_write_text, write_json
from rkd.utils.project import ROOT
from rkd.utils.script import run_script, text_argument
from rkd.workflow.plan import Plan

CITATION = "CITATION.cff"


def main() -> None:
    options = ArgumentParser(description=__doc__)
    help_text = "the checked config, JSON; -: from stdin"
    options.add_argument("--config", required=True, type=text_argument, help=help_text)
    options.add_argument("--results", required=True, type=Path, help="folder of tables, figures, runs and logs")
    options.add_argument("--citation", type=Path, default=ROOT / CITATION, help="by default the project's")
    options.add_argument("--tables", required=True, nargs="+", help="names of tables; those not made are left out")
    options.add_argument("--figures", required=True, nargs="*", help="names of figures, likewise")
    options.add_argument(
        "--out", required=True, type=Path, help="HTML file to write; its record, a JSON file, goes beside it"
    )
    args = options.parse_args()
    plan = Plan.from_json(args.config)
    atomic_write_text(args.out, page(plan, args.results, args.citation, args.tables, args.figures))
    made = origin(__file__, sources(plan, args.results, args.tables, args.figures), [CITATION])
    write_json(args.out.with_suffix(".json"), {"origin": with_outputs(made, [args.out])})


if __name__ == "__main__":
    run_script(main)
