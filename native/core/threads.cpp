// Threads are borrowed from libtorch, so both share one pool and one setting. Its pool does not
// survive fork(): a child that used it would wait for threads that no longer exist. Children
// therefore switch to a small pool of the core's own, started afresh.
#include "core/threads.h"

#include "dovetail.h"

#include <condition_variable>
#include <mutex>
#include <pthread.h>
#include <thread>

namespace dv {

namespace {

dv_parallel_for borrowed = nullptr;
dv_thread_count borrowed_count = nullptr;
bool forked = false;
thread_local bool inside = false;

class Pool {
public:
  void run(int64_t tasks, int64_t threads, dv_body body, void* context) {
    std::unique_lock<std::mutex> lock(mutex_);
    while ((int64_t)workers_ < threads - 1) {
      const int64_t index = (int64_t)++workers_;
      std::thread([this, index] { work(index); }).detach();
    }
    job_ = {tasks, threads, body, context};
    pending_ = threads - 1;
    generation_++;
    lock.unlock();
    start_.notify_all();
    share(job_, 0);
    lock.lock();
    done_.wait(lock, [this] { return pending_ == 0; });
  }

private:
  struct Job {
    int64_t tasks, threads;
    dv_body body;
    void* context;
  };

  static void share(const Job& job, int64_t index) {
    inside = true;
    const int64_t begin = job.tasks * index / job.threads;
    const int64_t end = job.tasks * (index + 1) / job.threads;
    if (begin < end)
      job.body(begin, end, job.context);
    inside = false;
  }

  void work(int64_t index) {
    uint64_t seen = 0;
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
      start_.wait(lock, [&] { return generation_ != seen; });
      seen = generation_;
      const Job job = job_;
      if (index >= job.threads)
        continue;
      lock.unlock();
      share(job, index);
      lock.lock();
      if (--pending_ == 0)
        done_.notify_one();
    }
  }

  std::mutex mutex_;
  std::condition_variable start_, done_;
  Job job_{};
  int64_t pending_ = 0, workers_ = 0;
  uint64_t generation_ = 0;
};

// Never destroyed: its threads may outlive main(). A forked child abandons its parent's pool,
// whose locks may be held for ever, and the lock on it.
struct Own {
  Pool pool;
  std::mutex in_use;
};
Own* own = nullptr;

void in_child() {
  forked = true;
  inside = false;
  own = new Own;
}

struct Init {
  Init() {
    own = new Own;
    pthread_atfork(nullptr, nullptr, in_child);
  }
} init;

} // namespace

int64_t thread_count() {
  uint32_t count = 0;
  if (borrowed_count && borrowed_count(&count) == 0 && count > 0)
    return count;
  const unsigned hardware = std::thread::hardware_concurrency();
  return hardware ? hardware : 1;
}

void parallel(int64_t tasks, dv_body body, void* context) {
  if (tasks < 1)
    return;
  const int64_t threads = thread_count() < tasks ? thread_count() : tasks;
  if (threads == 1 || inside) {
    body(0, tasks, context);
    return;
  }
  if (borrowed && !forked && borrowed(0, tasks, 1, body, context) == 0)
    return;
  // One call at a time shares the pool; one that finds it busy works alone.
  std::unique_lock<std::mutex> turn(own->in_use, std::try_to_lock);
  if (turn.owns_lock())
    own->pool.run(tasks, threads, body, context);
  else
    body(0, tasks, context);
}

} // namespace dv

void dv_set_threads(dv_parallel_for parallel_for, dv_thread_count count) {
  dv::borrowed = parallel_for;
  dv::borrowed_count = count;
}
