"""Parts of model cards: the facts, and the sections that tell them; :mod:`segadapt.runs.model_card` writes cards."""
