from distsae.reporting.explanations.examples import examples_of
from distsae.reporting.explanations.feature_job import prompts_of
from distsae.reporting.explanations.outlay import Outlay, as_text, outlay_of
from tests.reporting.explanations.samples import config, contexts_of, window
from tests.reporting.explanations.test_examples import OTHERS


def test_counts_every_request():
    examples = examples_of(contexts_of(0, [window(n, 1.0, 0.0) for n in range(20)], []), OTHERS, config())
    outlay = outlay_of([examples, examples], config())
    prompts = list(prompts_of(examples, config()))
    assert (outlay.features, outlay.requests) == (2, 2 * len(prompts)) == (2, 2 * (1 + 4 + 4))
    characters = 2 * sum(len(message["content"]) for prompt in prompts for message in prompt)
    assert outlay.tokens == -(-characters // 4)
    assert outlay_of([], config()) == Outlay(features=0, requests=0, tokens=0)


def test_says_what_goes_where_in_a_line():
    line = Outlay(features=1000, requests=9000, tokens=12345).line(config(key_env="MY_KEY", endpoint="https://h/v1"))
    assert line == (
        "sends text of the corpus to https://h/v1/chat/completions (a-model, with the key in MY_KEY): 1,000 features, "
        "9,000 requests, about 12,345 tokens; answers of about 270,000 tokens, at most 500 each"
    )
    assert "without a key" in Outlay(features=1, requests=9, tokens=1).line(config())


def test_as_text():
    assert as_text([{"role": "system", "content": "a"}, {"role": "user", "content": "b"}]) == "[system]\na\n\n[user]\nb"
