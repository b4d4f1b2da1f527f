"""`distsae explain RUN|SAE|PAGES --endpoint URL --model NAME`: explains features in words, and scores that."""

from __future__ import annotations

__all__ = ["EXAMPLES", "HELP", "run"]

HELP = "Explain features in words by a language model behind an endpoint of yours, and score the explanations."

EXAMPLES = """\
  distsae explain runs/mc --dry_run                            shows what would be sent, and sends nothing
  distsae explain runs/mc --endpoint http://localhost:8000/v1 --model Qwen/Qwen3-8B --store stores/gpt2
  distsae explain runs/mc --endpoint https://api.openai.com/v1 --key_env OPENAI_API_KEY --model gpt-4o-mini --out named
  distsae explain pages --endpoint http://localhost:8000/v1 --model Qwen/Qwen3-8B --features '[3, 17, 256]'
"""


def run(argv: list[str]) -> int:
    """Parses `argv`, explains, and prints the mean scores."""
    from distsae.cli.parsing import parse
    from distsae.reporting.explanations import ExplainConfig

    config = parse(ExplainConfig, argv, prog="distsae explain", examples=EXAMPLES, help=HELP, positionals=("run",))
    from distsae.reporting.explanations.explain import explain, plan_of
    from distsae.reporting.explanations.summary import summary_lines
    from distsae.standard_streams import show

    plan = plan_of(config)
    if config.dry_run:
        show(plan.dry_run())
        return 0
    show(*summary_lines(explain(plan)), f"wrote {plan.out}")
    return 0
