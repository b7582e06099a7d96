"""Keep or bring back the state of the improved training in half precision: keep_state.py pack|unpack RUN_DIR FILE."""
import json, shutil, sys
from pathlib import Path
sys.path.insert(0, "scripts")
import numpy as np
from notebook import run_cells
mode, folder, file = sys.argv[1:]
n = run_cells("setup", "parameters", "definitions", "variant:improved", OUTPUT_DIR=folder)
import tensorflow as tf
gan, run = n["improved"], n["improved_run"]
parts = {"g": gan.generator.weights, "d": gan.discriminator.weights, "e": gan.ema_generator.weights,
         "go": gan.checkpoint.g_optimizer.variables, "do": gan.checkpoint.d_optimizer.variables}
def half(v):
    if v.dtype != "float32": return v.numpy()
    if "momentum" in v.path: return np.zeros(0, np.float16)  # with beta_1 = 0 the gradient itself
    if "velocity" in v.path: return tf.bitcast(tf.cast(v.value, tf.bfloat16), tf.uint16).numpy()
    return v.numpy().astype(np.float16)
if mode == "pack":
    epoch = run.restore(gan)
    arrays = {f"{k}{i:03d}": half(v) for k, vs in parts.items() for i, v in enumerate(vs)}
    np.savez(file, epoch=epoch, history=json.dumps(run.history[:epoch]), **arrays)
    print(epoch, Path(file).stat().st_size / 1e6, "MB")
else:
    a = np.load(file)
    for k, vs in parts.items():
        for i, v in enumerate(vs):
            x = a[f"{k}{i:03d}"]
            if x.dtype == np.uint16: x = tf.cast(tf.bitcast(x, tf.bfloat16), tf.float32).numpy()
            if x.size: v.assign(x.astype(v.dtype))
    epoch = int(a["epoch"]); gan.epoch.assign(epoch)
    n["utils"].save_history(json.loads(str(a["history"])), run.history_file)
    run.save(gan, epoch); print("epoch", epoch, "step", int(gan.step))
