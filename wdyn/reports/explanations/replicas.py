"""What do the findings about copies in several processes mean at length?"""

from wdyn.reports.explanations.explanation import Explanation

REPLICAS = {
    "REP001": Explanation(
        "Processes that average gradients train one model only while all hold the same weights. A copy here has other "
        "bits than the first, which alone is recorded. Data is no cause, with or without a DistributedSampler.",
        "A copy that is no buffer differs up to its last comparison, and has not agreed again {syncs} times.",
        "Processes seeded differently, and nothing broadcast; a step, load or write on one rank; no_sync() around the "
        "last backward; parameters outside the wrapped forward; nondeterministic kernels where each process computes "
        "its own gradients, as of replicated norms; bad memory. Experts or shards kept as plain tensors differ by "
        "design.",
        "Look at what one rank does alone before that step, and at the parameters named first.",
    ),
    "REP002": Explanation(
        "Buffers of the processes differ, and no weight did before. Gradients are shared, but each process writes its "
        "own buffers, from its own data.",
        "A buffer differs at a row, before any weight does. INFO for the running mean and variance of a batch norm "
        "that is not synchronised, WARNING for all others.",
        "Batch norms keep statistics of their own batches by design. Others: buffers drawn at random, counters, tables "
        "that were loaded on one rank, a wrapper that was told not to broadcast buffers.",
        "To keep one statistic, use SyncBatchNorm. Compute other buffers alike everywhere, or broadcast them. A "
        "checkpoint saves those of one process.",
    ),
    "REP003": Explanation(
        "Copies of a weight differed between processes at some rows and were the same at a later one, so something "
        "makes them alike: a broadcast, a load, an average.",
        "A copy that is no buffer agrees at a row after one at which it differed: a WARNING where it agrees at the "
        "end, INFO where that happened {syncs} times or more.",
        "The model was wrapped after recording began, all ranks loaded a checkpoint, or weights are averaged every few "
        "steps as in local SGD.",
        "Where you average weights, nothing. Else find what parted them: whatever the copies learned apart was thrown "
        "away.",
    ),
}
