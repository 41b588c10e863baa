#include "glue/scratch.h"

#include <algorithm>
#include <cstdint>

#include "glue/error.h"

// AddressSanitizer sees one large chunk; it is told which parts of it nobody has taken.
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#define GR_FORBID(start, bytes) ASAN_POISON_MEMORY_REGION(start, bytes)
#define GR_ALLOW(start, bytes) ASAN_UNPOISON_MEMORY_REGION(start, bytes)
#else
#define GR_FORBID(start, bytes) static_cast<void>(0)
#define GR_ALLOW(start, bytes) static_cast<void>(0)
#endif

namespace gr {

Scratch& Scratch::of_this_thread() {
  thread_local Scratch scratch;
  return scratch;
}

void* Scratch::take(size_t bytes) {
  const size_t wanted = checked_add(bytes, kSlack + kAlignment - 1, "a working buffer") / kAlignment * kAlignment;
  while (chunk_ < chunks_.size() && chunks_[chunk_].bytes - used_ < wanted) {
    if (used_ == 0) {
      // Nobody holds anything in a chunk that is too small: it makes way for a larger one.
      chunks_.erase(chunks_.begin() + static_cast<std::ptrdiff_t>(chunk_));
    } else {
      ++chunk_;
      used_ = 0;
    }
  }
  if (chunk_ == chunks_.size()) {
    const size_t room = std::max<size_t>(wanted, size_t{1} << 16);
    auto owner = std::make_unique<unsigned char[]>(checked_add(room, kAlignment, "a working buffer"));
    const auto address = reinterpret_cast<uintptr_t>(owner.get());
    unsigned char* start = owner.get() + (kAlignment - address % kAlignment) % kAlignment;
    chunks_.push_back({std::move(owner), start, room});
    GR_FORBID(start, room);
  }
  void* taken = chunks_[chunk_].start + used_;
  GR_ALLOW(taken, bytes + kSlack);
  used_ += wanted;
  return taken;
}

void Scratch::give_back(size_t chunk, size_t used) {
  for (size_t k = chunk; k < chunks_.size() && k <= chunk_; ++k) {
    const size_t kept = k == chunk ? used : 0;
    GR_FORBID(chunks_[k].start + kept, chunks_[k].bytes - kept);
    static_cast<void>(kept);
  }
  chunk_ = chunk;
  used_ = used;
}

}  // namespace gr
