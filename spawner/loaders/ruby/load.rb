# From an entry to an app that answers calls, and from whatever goes wrong on the way to a sentence.
module HatcheryLoader
  module Load
    OLDEST = '2.7'

    class << self
      def app(entry)
        if Gem::Version.new(RUBY_VERSION) < Gem::Version.new(OLDEST)
          raise Failure.new('runtime', "Ruby #{RUBY_VERSION} is too old for this loader",
                            "use Ruby #{OLDEST} or newer")
        end
        file = File.expand_path(entry)
        unless File.file?(file)
          raise Failure.new('entry', "there is no #{entry} in #{Dir.pwd}",
                            'add one that ends with `run APP`, or name the file as `entry` in hatchery.toml')
        end
        guard(file) do
          bundle
          require 'rack'
          # Answers need it; a preloader has it before it forks.
          Rack::Utils
          parse(file)
        end
      end

      private

      # A rackup file is evaluated in rack's own way. Rack 2 gives its options as well, rack 3 the app alone.
      def parse(file)
        wants_options = Rack::Builder.method(:parse_file).parameters.include?([:opt, :opts])
        found = wants_options ? Rack::Builder.parse_file(file, nil) : Rack::Builder.parse_file(file)
        app = found.is_a?(Array) ? found.first : found
        return app if app.respond_to?(:call)
        raise Failure.new('entry', "what #{file} runs can't be called: #{app.class}",
                          'give `run` an object that answers `call(env)`')
      end

      def gemfile
        named = ENV['BUNDLE_GEMFILE'].to_s
        return File.expand_path(named) unless named.empty?
        %w[Gemfile gems.rb].map { |name| File.expand_path(name) }.find { |path| File.file?(path) }
      end

      def bundle
        file = gemfile or return
        # Without this bundler may take one of a folder above.
        ENV['BUNDLE_GEMFILE'] = file
        require 'bundler/setup'
      rescue LoadError => error
        raise unless error.path == 'bundler/setup'
        raise Failure.new('module', "#{file} needs bundler, which this Ruby (#{RbConfig.ruby}) doesn't have",
                          "install it with `gem install bundler`, then run `bundle install` in #{File.dirname(file)}",
                          error)
      end

      def guard(file)
        yield
      rescue Failure, SignalException
        raise
      rescue SystemExit => error
        place = HatcheryLoader.place_of(error)
        raise Failure.new('exit', "the app left while it was loaded, with status #{error.status}" \
                                  "#{" (#{place})" if place}",
                          'what its output says may tell why; a server must not exit before it is told to', error)
      rescue SyntaxError => error
        raise syntax(error)
      rescue LoadError => error
        raise missing(error)
      rescue Exception => error
        raise other(error, file)
      end

      def syntax(error)
        first = error.message.to_s.dup.force_encoding(Encoding::UTF_8).scrub('?')
        where, line, what = first.match(/\A(.+?):(\d+): *(.*)$/)&.captures
        problem = where ? "#{where} has a syntax error in line #{line}: #{what}" : "there is a syntax error: #{first}"
        Failure.new('syntax', problem, 'mend that line (`ruby -c FILE` checks a file)', error)
      end

      def missing(error)
        name = error.respond_to?(:name) && error.name || error.path
        return Failure.new('module', "a library can't be loaded: #{HatcheryLoader.summary(error)}",
                           'install what it names for this Ruby', error) unless name
        if name.start_with?('/', './', '../')
          place = HatcheryLoader.place_of(error)
          return Failure.new('module', "the file #{name} is missing#{", which #{place} requires" if place}",
                             'add the file, or mend the `require`', error)
        end
        gem = name.split('/').first
        Failure.new('module', "the gem #{gem} is missing (`require '#{name}'`#{place_in(error)})",
                    remedy_for(gem), error)
      end

      def place_in(error)
        place = HatcheryLoader.place_of(error)
        place ? " in #{place}" : ''
      end

      def remedy_for(gem)
        file = gemfile
        return "install it with `gem install #{gem}` for #{RbConfig.ruby}, or name it in a Gemfile" unless file
        "name it in #{file} and run `bundle install` in #{File.dirname(file)}"
      end

      def other(error, file)
        if defined?(Bundler::BundlerError) && error.is_a?(Bundler::BundlerError)
          folder = File.dirname(gemfile)
          return Failure.new('module', "the gems of #{gemfile} can't be used: #{HatcheryLoader.summary(error)}",
                             "run `bundle install` in #{folder}", error)
        end
        if error.message.to_s.include?('missing run or map statement')
          return Failure.new('entry', "#{file} runs no app", 'end it with `run APP`', error)
        end
        Failure.new('exception', "the app raised #{HatcheryLoader.summary(error)} while it was loaded",
                    'see the backtrace in its output', error)
      end
    end
  end
end
