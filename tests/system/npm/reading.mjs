// How the promises read from iterators that would go on.

/** Return what an iterator gives next, so many; the iterator is closed behind them. */
export async function take(iterator, count) {
  const taken = [];
  if (count === 0) return taken;
  for await (const item of iterator) {
    taken.push(item);
    if (taken.length === count) break;
  }
  return taken;
}

/** Return everything that an iterator gives until it ends by itself. */
export async function all(iterator) {
  const taken = [];
  for await (const item of iterator) taken.push(item);
  return taken;
}

/** Call a condition until it returns something true, and return that. */
export async function until(condition, what) {
  const deadline = Date.now() + 20_000;
  for (;;) {
    const result = await condition();
    if (result) return result;
    if (Date.now() > deadline) throw new Error(`waited for ${what}; last seen: ${result}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
