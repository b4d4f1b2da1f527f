"""What a plan says: the first bottleneck, repeated work, and where reading limits."""

from distsae.planning.cluster.notes import adam_note, bottleneck, reading_note
from tests.planning.cluster.samples import plan


def test_the_first_bottleneck():
    assert bottleneck(plan()).startswith("selection, ")
    assert bottleneck(plan(gpus=1, d_sae=1 << 24)).startswith("memory: no mesh of 1 devices")
    assert bottleneck(plan(disk_gb_per_second=5.0, checkpoint_every=10)).startswith("writing checkpoints takes longer")
    slow = plan(disk_gb_per_second=0.1, checkpoint_every=10**6)
    assert bottleneck(slow).startswith("reading, ")
    sent = plan(gpus=64, d_sae=1 << 16, data=64, network_gb_per_second=0.5, disk_gb_per_second=1000.0)
    assert bottleneck(sent).startswith("gradients, exchanged between ranks, ")


def test_data_ranks_repeat_adam():
    assert adam_note(plan(data=1)) == ""
    assert adam_note(plan(data=8, engine="deepspeed")) == ""
    text = adam_note(plan(data=8, divide_moments=True))
    assert text.startswith("data ranks divide Adam (`--optimizer.divide_moments true`): each of the 8 with the same")
    assert "holds 8 GiB of moments, and gets 30,0" in text
    text = adam_note(plan(data=8, divide_moments=False))
    assert text.startswith("data ranks repeat Adam: each of the 8 with the same features sums all their gradients")
    assert "holds 64 GiB of moments; divided, it would be" in text
    assert "and 8 GiB, and 30,065 MB of updated rows to exchange" in text


def test_reading_limits_wide_meshes():
    assert reading_note(plan(d_sae=1 << 22, gpus=8)) == ""
    text = reading_note(plan(gpus=64))
    assert text.startswith("reading limits ")
    assert "1 x 64" in text
