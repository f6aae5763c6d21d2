"""The default row, as the pipeline's --row-file has it."""

ROW = {
    "name": "rtx-1.7",
    "tensorrt": "1.7.1.116",
    "flavour": "rtx",
    "exporter": "dynamo",
    "opset": 18,
    "cuda": "13.0",
    "architectures": ["89"],
    "runs_on": ["8.9"],
}
