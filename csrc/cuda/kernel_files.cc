// Compiled kernels on disk (kernel_files.h).
#include "cuda/kernel_files.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "core/kernel.h"

namespace hb::cuda {
namespace {

namespace fs = std::filesystem;

struct Header {
  char magic[8];
  uint64_t key_bytes, code_bytes, hash;
};
constexpr char kMagic[8] = {'h', 'b', 'k', 'e', 'r', 'n', 'e', '1'};
constexpr char kEnding[] = ".kernel", kUnfinished[] = ".unfinished-";

uint64_t hash_of(std::string_view text, uint64_t h) {  // FNV-1a
  for (const char c : text) h = (h ^ uint8_t(c)) * 0x100000001b3u;
  return h;
}
constexpr uint64_t kStart = 0xcbf29ce484222325u, kOther = 0x84222325cbf29ce4u;

bool write_all(int file, const std::string& text) {
  size_t done = 0;
  while (done < text.size()) {
    const ssize_t n = write(file, text.data() + done, text.size() - done);
    if (n <= 0) return false;
    done += size_t(n);
  }
  return true;
}

// What is in a file of at most `limit` bytes.
std::optional<std::string> read_all(const std::string& path, uint64_t limit) {
  const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) return {};
  struct stat s;
  std::optional<std::string> text;
  if (fstat(file, &s) == 0 && S_ISREG(s.st_mode) && uint64_t(s.st_size) <= limit) {
    text.emplace(size_t(s.st_size), '\0');
    size_t done = 0;
    while (done < text->size()) {
      const ssize_t n = read(file, text->data() + done, text->size() - done);
      if (n <= 0) break;
      done += size_t(n);
    }
    text->resize(done);
  }
  close(file);
  return text;
}

// What lies there is run: nobody else may have put it there.
bool is_ours(const std::string& folder) {
  struct stat s;
  return stat(folder.c_str(), &s) == 0 && S_ISDIR(s.st_mode) &&
         (s.st_uid == geteuid() || s.st_uid == 0) && (s.st_mode & (S_IWGRP | S_IWOTH)) == 0;
}

uint64_t limit_of_environment() {
  const char* text = getenv("HORNBEAM_KERNEL_FILES");
  if (!text || !*text) return uint64_t(256) << 20;
  char* end = nullptr;
  const uint64_t limit = strtoull(text, &end, 10);
  if (*end || *text == '-')
    fail("HORNBEAM_KERNEL_FILES: expected a number of bytes, got '%.100s'", text);
  return limit;
}

}  // namespace

KernelFiles::KernelFiles() : limit_(limit_of_environment()) {
  if (limit_ == 0) return;
  const char *own = getenv("HORNBEAM_HOME"), *home = getenv("HOME");
  const bool at_home = home && *home;
  if (own && *own)
    folder_ = own;
  else if (at_home)
    folder_ = "~/.hornbeam";
  else
    return;
  if (at_home && (folder_ == "~" || folder_.starts_with("~/"))) folder_ = home + folder_.substr(1);
  folder_ += "/kernels";
}

std::string KernelFiles::path_of(const std::string& key) const {
  char name[48];
  snprintf(name, sizeof name, "/%016llx%016llx%s", (unsigned long long)hash_of(key, kStart),
           (unsigned long long)hash_of(key, kOther), kEnding);
  return folder_ + name;
}

std::optional<std::string> KernelFiles::load(const std::string& key) const {
  if (folder_.empty() || !is_ours(folder_)) return {};
  const std::string path = path_of(key);
  const std::optional<std::string> file = read_all(path, limit_);
  Header h;
  if (!file || file->size() < sizeof h) return {};
  memcpy(&h, file->data(), sizeof h);
  const std::string_view kept = std::string_view(*file).substr(sizeof h);
  if (memcmp(h.magic, kMagic, sizeof kMagic) != 0 || h.key_bytes != key.size() ||
      h.key_bytes > kept.size() || h.code_bytes != kept.size() - h.key_bytes ||
      !kept.starts_with(key) || hash_of(kept, kStart) != h.hash)
    return {};
  utimensat(AT_FDCWD, path.c_str(), nullptr, 0);  // used now
  return std::string(kept.substr(key.size()));
}

void KernelFiles::store(const std::string& key, const std::string& code) const {
  Header h{};
  const std::string kept = key + code;
  if (folder_.empty() || sizeof h + kept.size() > limit_) return;
  std::error_code error;
  fs::create_directories(fs::path(folder_).parent_path(), error);
  mkdir(folder_.c_str(), 0700);
  if (!is_ours(folder_)) return;
  std::string temporary = folder_ + "/" + kUnfinished + "XXXXXX";
  const int file = mkostemp(temporary.data(), O_CLOEXEC);
  if (file < 0) return;
  memcpy(h.magic, kMagic, sizeof kMagic);
  h.key_bytes = key.size();
  h.code_bytes = code.size();
  h.hash = hash_of(kept, kStart);
  const std::string header(reinterpret_cast<const char*>(&h), sizeof h);
  const bool written = write_all(file, header) && write_all(file, kept);
  if (close(file) != 0 || !written || rename(temporary.c_str(), path_of(key).c_str()) != 0) {
    unlink(temporary.c_str());
    return;
  }
  make_room();
}

void KernelFiles::make_room() const {
  struct File {
    fs::file_time_type used;
    uint64_t size;
    fs::path path;
  };
  std::vector<File> files;
  uint64_t total = 0;
  std::error_code error;
  const auto now = fs::file_time_type::clock::now();
  for (fs::directory_iterator i(folder_, error), end; !error && i != end; i.increment(error)) {
    const std::string name = i->path().filename().string();
    std::error_code gone;
    File f{i->last_write_time(gone), 0, i->path()};
    if (!gone) f.size = i->file_size(gone);
    if (gone) continue;
    if (name.starts_with(kUnfinished)) {  // of a process that ended
      if (now - f.used > std::chrono::hours(1)) fs::remove(f.path, gone);
    } else if (name.ends_with(kEnding)) {
      total += f.size;
      files.push_back(std::move(f));
    }
  }
  std::sort(files.begin(), files.end(),
            [](const File& a, const File& b) { return a.used < b.used; });
  for (const File& f : files) {
    if (total <= limit_) return;
    fs::remove(f.path, error);
    total -= f.size;
  }
}

}  // namespace hb::cuda
