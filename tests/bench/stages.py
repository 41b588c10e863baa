"""Which functions make up the stages of a run; a bench that names one that is gone fails at once."""

PRUNE: dict[str, tuple[str, ...]] = {
    "load": ("graphrewrite.ir.model:Model.load",),
    "infer shapes": (
        "graphrewrite.dims.sweep:infer",
        "graphrewrite.pipeline.proof:infer",
        "graphrewrite.cost.count:infer",
        "graphrewrite.cost.sums:infer",
    ),
    "analysis": ("graphrewrite.dims.groups:analyse", "graphrewrite.passes.channels.remove:inlined"),
    "groups": ("graphrewrite.dims.groups:group_units",),
    "cost": ("graphrewrite.cost:of", "graphrewrite.cost:totals"),
    "scores": (
        "graphrewrite.passes.channels.criteria.l1:L1.score",
        "graphrewrite.passes.channels.criteria.l2:L2.score",
    ),
    "selection": ("graphrewrite.passes.channels.budgets:MacsBelow.choose",),
    "cut": ("graphrewrite.passes.channels.remove:shrink", "graphrewrite.passes.channels.remove:add_biases"),
    "clone": ("graphrewrite.ir.model:Model.clone",),
    "proof: compare models": ("graphrewrite.pipeline.proof:is_same",),
    "proof: structure": (
        "graphrewrite.pipeline.structure:problem_of",
        "graphrewrite.pipeline.structure:Front.of",
    ),
    "proof: build reference": ("graphrewrite.passes.channels.remove:reference",),
    "proof: load into onnxruntime": ("graphrewrite.pipeline.proof:session",),
    "proof: run": ("graphrewrite.pipeline.proof:run_session",),
    "proof: compare outputs": ("graphrewrite.pipeline.proof:compare",),
    "proof: run as served": ("graphrewrite.pipeline.proof:Prover.served",),
    "save": ("graphrewrite.ir.model:Model.save",),
}

# What `RemoveChannels.run` does, the reference it only builds when asked left out.
ENGINE: dict[str, tuple[str, ...]] = {
    "infer shapes": (
        "graphrewrite.dims.sweep:infer",
        "graphrewrite.cost.count:infer",
        "graphrewrite.cost.sums:infer",
    ),
    "analyse": ("graphrewrite.dims.groups:analyse", "graphrewrite.passes.channels.remove:inlined"),
    "groups": ("graphrewrite.dims.groups:group_units",),
    "cost": ("graphrewrite.cost:of", "graphrewrite.cost:totals"),
    "scores": ("graphrewrite.passes.channels.criteria.l2:L2.score",),
    "budget": ("graphrewrite.passes.channels.budgets:MacsBelow.choose",),
    "compensate": ("graphrewrite.passes.channels.remove:RemoveChannels._compensate",),
    "cut": ("graphrewrite.passes.channels.remove:shrink", "graphrewrite.passes.channels.remove:add_biases"),
    "report": ("graphrewrite.passes.channels.remove:_after", "graphrewrite.passes.channels.remove:_details"),
}

COMMAND: dict[str, tuple[str, ...]] = {
    "read and check file": ("graphrewrite.cli.rewriting:load",),
    "describe files": ("graphrewrite.cli.rewriting:describe_file",),
    "tidy": ("graphrewrite.passes.tidy.tidy:Tidy.run",),
    "sample inputs": ("graphrewrite.pipeline.proof:candidates",),
    "layers": ("graphrewrite.cli.verbs.prune:layers",),
}
