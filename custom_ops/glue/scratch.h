// Working memory of one thread: a stack of aligned chunks that is kept between calls, so that a layer finds the memory
// of the layer before it still in the cache. Given back when the thread ends.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

namespace gr {

class Scratch {
 public:
  // Every pointer is aligned to a cache line, and this many bytes behind it may be read (never written) too: a vector
  // load at the end of a buffer needs no special case.
  static constexpr size_t kAlignment = 64;
  static constexpr size_t kSlack = 64;

  // The stack of the calling thread.
  static Scratch& of_this_thread();

  void* take(size_t bytes);

  // Gives back on destruction what was taken since construction. Scopes nest.
  class Scope {
   public:
    explicit Scope(Scratch& scratch) : scratch_(scratch), chunk_(scratch.chunk_), used_(scratch.used_) {}
    ~Scope() { scratch_.give_back(chunk_, used_); }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    Scratch& scratch_;
    size_t chunk_;
    size_t used_;
  };

 private:
  void give_back(size_t chunk, size_t used);

  struct Chunk {
    std::unique_ptr<unsigned char[]> owner;
    unsigned char* start;
    size_t bytes;
  };

  std::vector<Chunk> chunks_;
  size_t chunk_ = 0;  // index of the chunk in use
  size_t used_ = 0;   // bytes taken from it
};

}  // namespace gr
