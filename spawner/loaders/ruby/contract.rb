# frozen_string_literal: true

# The loader for Rack applications: what it says to the spawner, and what it offers to the app.
# The program is README.md's files in their order, joined to one text. Nothing here defines a local variable at the
# top level: config.ru would see it. The syntax is one that Ruby 2.3 reads, so that too old a Ruby can be told.

# What an app may ask of the pool.
module Hatchery
  @hooks = { before_fork: [], on_start: [], on_stop: [] }
  @preloading = false

  class << self
    # Called in the preloader before each worker is forked.
    def before_fork(&block)
      add(:before_fork, block)
    end

    # Called in every worker before it serves, with true where it was forked from a preloader.
    def on_start(&block)
      add(:on_start, block)
    end

    # Called in every worker that leaves in good order.
    def on_stop(&block)
      add(:on_stop, block)
    end

    # Whether this process imports the app to fork workers from.
    def preloading?
      @preloading
    end

    private

    def add(hook, block)
      raise ArgumentError, "Hatchery.#{hook} wants a block" unless block
      @hooks[hook] << block
    end
  end
end

# For apps that were written for Passenger: its two events of a worker's life.
module PhusionPassenger
  class << self
    def on_event(name, &block)
      case name.to_sym
      when :starting_worker_process then Hatchery.on_start(&block)
      when :stopping_worker_process then Hatchery.on_stop { block.arity.zero? ? block.call : block.call(nil) }
      else warn "hatchery: the event #{name} never happens here"
      end
    end
  end
end

module HatcheryLoader
  FILE = __FILE__
  CONTROL = 5
  # A packet has at most 32 KiB, in bytes; a sentence that long helps nobody.
  LONGEST_FIELD = 4096

  # Why the app can't be started, for a person.
  class Failure < StandardError
    attr_reader :code, :problem, :remedy, :cause_of_it

    def initialize(code, problem, remedy, cause_of_it = nil)
      super(problem)
      @code, @problem, @remedy, @cause_of_it = code, problem, remedy, cause_of_it
    end
  end

  # A channel to the spawner: one packet is one message.
  class Channel
    def initialize(io)
      @io = io
    end

    attr_reader :io

    def tell(*words)
      packet = words.map { |word| shorten(word) }.join("\0")
      # Bytes: to a packet socket one `write` is one packet.
      @io.syswrite(packet)
    rescue SystemCallError => error
      # The spawner has gone; whoever runs this by hand has none.
      warn "hatchery: the spawner can't be told: #{error.message}"
    end

    def tell_failure(failure)
      tell('failed', failure.code, failure.problem, failure.remedy)
    end

    def close
      @io.close unless @io.closed?
    end

    private

    def shorten(word)
      word = word.to_s.dup.force_encoding(Encoding::UTF_8).scrub('?').tr("\0", ' ')
      word.bytesize > LONGEST_FIELD ? "#{word.byteslice(0, LONGEST_FIELD).scrub('')}…" : word
    end
  end

  class << self
    # Prints an exception without the loader's own lines.
    def print_error(error)
      lines = error.backtrace
      if lines
        lines = lines.reject { |line| line.start_with?(FILE) }
        error.set_backtrace(lines)
      end
      $stderr.puts(text_of(error))
      $stderr.flush
    rescue StandardError => broken
      # `message` is the app's code, and so is what stands at $stderr.
      STDERR.puts("#{error.class} (and it can't be shown: #{broken.class})")
    end

    # Runs an app's hooks; the first that raises is why the worker can't be started.
    def run_hooks(name, *arguments)
      Hatchery.instance_variable_get(:@hooks)[name].each do |hook|
        begin
          hook.call(*arguments.first(hook.lambda? && hook.arity >= 0 ? hook.arity : arguments.size))
        rescue SignalException
          raise
        rescue Exception => error
          place = hook.source_location.join(':')
          raise Failure.new('hook', "the #{name} hook at #{place} raised #{summary(error)}",
                            'mend the hook, or start the app without preloading', error)
        end
      end
    end

    # `Class: message` in one line, with the place.
    def summary(error)
      message = error.message.to_s.dup.force_encoding(Encoding::UTF_8).scrub('?').strip.lines.first.to_s.strip
      place = place_of(error)
      "#{error.class}#{": #{message}" unless message.empty? || message == error.class.name}#{" (#{place})" if place}"
    end

    # The first line of the app's own that an exception passed through, as `file:line`.
    def place_of(error)
      lines = (error.backtrace || []).reject { |each| each.start_with?(FILE, '<internal:') }
      line = lines.find { |each| each !~ %r{/(rubygems|gems|rack|bundler)/} } || lines.first
      line && line[/\A(.+?:\d+)(?::|\z)/, 1]
    end

    private

    def text_of(error)
      error.full_message(highlight: false, order: :top)
    rescue ArgumentError, NoMethodError
      (["#{error.message} (#{error.class})"] + (error.backtrace || []).map { |line| "\tfrom #{line}" }).join("\n")
    end
  end
end
