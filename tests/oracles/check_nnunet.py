"""Whether nnU-Net itself takes what `jcl export --to nnunet` wrote; run by hand, in an environment of its own.

    python -m venv nnunet-environment
    nnunet-environment/bin/pip install torch==2.13.0 numpy
    nnunet-environment/bin/pip install --no-deps nnunetv2==2.8.1 dynamic-network-architectures==0.4.4
    nnunet-environment/bin/python tests/oracles/check_nnunet.py EXPORTED

Without their dependencies, since these bring torchvision: the function that `-pretrained_weights` calls needs PyTorch
alone. The network is made of the exported plan, by nnU-Net's rules (a name in `_kw_requires_import` is a class).
"""

import json
import pydoc
import sys
from pathlib import Path

import torch
from nnunetv2.run.load_pretrained_weights import load_pretrained_weights


def main(folder: Path) -> None:
    (configuration,) = json.loads((folder / "plans.json").read_text())["configurations"].values()
    plan = configuration["architecture"]
    data = json.loads((folder / "dataset.json").read_text())
    keywords = dict(plan["arch_kwargs"])
    for name in plan["_kw_requires_import"]:
        keywords[name] = keywords[name] and pydoc.locate(keywords[name])
    network = pydoc.locate(plan["network_class_name"])(
        input_channels=len(data["channel_names"]), num_classes=7, deep_supervision=True, **keywords
    )
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(float("nan"))
    path = folder / "fold_0" / "checkpoint_final.pth"
    load_pretrained_weights(network, path)
    saved = torch.load(path, weights_only=True)["network_weights"]
    for name, value in network.state_dict().items():
        if ".seg_layers." not in name:
            assert torch.equal(value, saved[name]), name
    for layer in network.decoder.seg_layers:
        torch.nn.init.zeros_(layer.weight)
        torch.nn.init.ones_(layer.bias)
    assert all(bool(torch.isfinite(parameter).all()) for parameter in network.parameters()), "something was not loaded"
    strides = torch.tensor(keywords["strides"]).prod(0)
    size = (2 * strides).tolist()
    outputs = network.eval()(torch.rand(1, len(data["channel_names"]), *size))
    assert tuple(outputs[0].shape) == (1, 7, *size)
    encoder = sum(parameter.numel() for parameter in network.encoder.parameters())
    whole = sum(parameter.numel() for name, parameter in network.named_parameters() if ".seg_layers." not in name)
    print(f"nnU-Net took all {whole:,} weights but its heads, {encoder:,} of them the encoder's: all as exported")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
